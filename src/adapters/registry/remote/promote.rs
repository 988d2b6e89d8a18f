//! Promotion to a registry: blobs, then manifests by digest, read back, then tags, each a PUT of the same bytes. The tag of
//! the key says that all else is there, so it comes after the record and the artifacts; `latest` comes last. Whatever ends
//! the process in between, no tag points to half an image. Not responsible for: moving a tag to what was not read back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use oci_spec::image::Descriptor;

use super::super::files::failed;
use super::super::parts::Parts;
use super::pull::Sealed;
use super::push::Source;
use super::wire::Wire;
use crate::domain::base::Digest;
use crate::domain::model::{ImageName, LATEST, LayerKey};
use crate::domain::ports::{ImageStoreError, Staged, StagedAt};
use crate::system::oci;

/// Blobs uploaded at once.
const UPLOADS: usize = 4;

pub(super) async fn promote(wire: &Wire, staged: &Staged) -> Result<(), ImageStoreError> {
    let (name, artifacts_name) = (staged.name.as_str(), staged.name.artifacts());
    let artifacts_name = artifacts_name.as_str();
    let (repository, beside) = (wire.address.repository(name), beside(wire, staged));
    let image = arrive(wire, name, &beside, &staged.staging, &staged.digest).await?;
    let artifacts = match &staged.artifacts {
        Some((at, digest)) => {
            let place = wire.address.repository(artifacts_name);
            Some((arrive(wire, artifacts_name, &beside, at, digest).await?, place))
        }
        None => None,
    };
    let record = keep(wire, &repository, staged, &image).await?;
    let tag = staged.key.tag();
    wire.put(&repository, &format!("{tag}.parts"), &record).await?;
    for tag in [tag.as_str(), LATEST] {
        if let Some((artifacts, place)) = &artifacts {
            wire.put(place, tag, artifacts).await?;
        }
        wire.put(&repository, tag, &image).await?;
    }
    Ok(())
}

/// Points a tag of an image, and of its artifacts, to what its key points to.
pub(super) async fn point(
    wire: &Wire,
    (name, tag): (&ImageName, &str),
    key: &LayerKey,
) -> Result<bool, ImageStoreError> {
    let mut moved = false;
    for name in [name.artifacts(), name.clone()] {
        let repository = wire.address.repository(name.as_str());
        let Some(wanted) = wire.digest(&repository, &key.tag()).await? else { continue };
        if wire.digest(&repository, tag).await?.as_ref() == Some(&wanted) {
            continue;
        }
        let Some(image) = wire.manifest(&repository, wanted.as_str()).await? else { continue };
        wire.put(&repository, tag, &image).await?;
        moved = true;
    }
    Ok(moved)
}

/// The repositories that may hold blobs of this image already: those of its parents, and its own.
fn beside(wire: &Wire, staged: &Staged) -> Vec<String> {
    let parents = staged.record.built_on.keys().map(|parent| staged.name.sibling(parent));
    parents.chain([staged.name.clone()]).map(|name| wire.address.repository(name.as_str())).collect()
}

/// Sees to it that an image is in the registry by its digest, all of it.
async fn arrive(
    wire: &Wire,
    name: &str,
    beside: &[String],
    at: &StagedAt,
    digest: &Digest,
) -> Result<Sealed, ImageStoreError> {
    let repository = wire.address.repository(name);
    match at {
        StagedAt::Folder(folder) => push(wire, name, &repository, beside, folder, digest).await,
        StagedAt::Pushed => pushed(wire, &repository, digest).await,
    }
}

/// An image that its builder pushed: whether it is there, all of it.
async fn pushed(wire: &Wire, repository: &str, digest: &Digest) -> Result<Sealed, ImageStoreError> {
    let lacks = |digest: &Digest| {
        let what = format!("lacks a part of the image that was pushed to {repository}: {digest}");
        wire.faults.told(what, "build the layer again with `--force`; nothing was promoted")
    };
    let mut top = None;
    let mut waiting = vec![digest.clone()];
    while let Some(digest) = waiting.pop() {
        let sealed = wire.manifest(repository, digest.as_str()).await?.ok_or_else(|| lacks(&digest))?;
        for blob in sealed.manifest.blobs() {
            let blob = oci::digest(blob);
            if !wire.has(repository, &blob).await? {
                return Err(lacks(&blob));
            }
        }
        waiting.extend(sealed.manifest.children().iter().map(oci::digest));
        top.get_or_insert(sealed);
    }
    top.ok_or_else(|| lacks(digest))
}

async fn push(
    wire: &Wire,
    name: &str,
    repository: &str,
    beside: &[String],
    folder: &Path,
    digest: &Digest,
) -> Result<Sealed, ImageStoreError> {
    let mut manifests = Vec::new();
    collect(name, folder, digest, &mut manifests)?;
    let named = manifests.iter().flat_map(|sealed| sealed.manifest.blobs());
    let blobs: BTreeMap<Digest, &Descriptor> = named.map(|blob| (oci::digest(blob), blob)).collect();
    // Several at once: small ones are mostly waiting, and a large one is bound by one connection.
    let brought: Vec<_> = blobs.into_values().map(|blob| bring(wire, name, repository, beside, folder, blob)).collect();
    stream::iter(brought).buffer_unordered(UPLOADS).try_collect::<()>().await?;
    for sealed in &manifests {
        wire.put(repository, sealed.digest.as_str(), sealed).await?;
    }
    for sealed in &manifests {
        wire.verify(repository, sealed).await?;
    }
    Ok(manifests.pop().expect("invariant: the image itself was collected last"))
}

/// One blob of the folder. What an export left out, the registry must have.
async fn bring(
    wire: &Wire,
    name: &str,
    repository: &str,
    beside: &[String],
    folder: &Path,
    blob: &Descriptor,
) -> Result<(), ImageStoreError> {
    let digest = oci::digest(blob);
    let path = place(folder, &digest);
    let size = std::fs::metadata(&path).map(|meta| meta.len());
    if size.as_ref().is_ok_and(|size| *size == blob.size()) {
        return wire.bring(repository, beside, blob, Source::File(&path)).await;
    }
    if wire.has(repository, &digest).await? {
        return Ok(());
    }
    let what = if size.is_ok() { "it is cut off" } else { "it is missing" };
    Err(ImageStoreError::Corrupt { path, what: what.to_owned(), name: name.to_owned() })
}

/// The manifests of an image in a folder, children first: a registry takes none whose parts it lacks.
fn collect(name: &str, folder: &Path, digest: &Digest, found: &mut Vec<Sealed>) -> Result<(), ImageStoreError> {
    let path = place(folder, digest);
    let bytes = std::fs::read(&path).map_err(|error| failed("cannot read the blob", &path, error))?;
    let damaged = |what: String| ImageStoreError::Corrupt { path: path.clone(), what, name: name.to_owned() };
    let sealed = Sealed::read(Bytes::from(bytes)).map_err(|what| damaged(format!("it is no manifest: {what}")))?;
    if sealed.digest != *digest {
        return Err(damaged("its content has another digest".to_owned()));
    }
    for child in sealed.manifest.children() {
        collect(name, folder, &oci::digest(child), found)?;
    }
    found.push(sealed);
    Ok(())
}

/// Brings the record, as an artifact whose subject is the image.
async fn keep(wire: &Wire, repository: &str, staged: &Staged, image: &Sealed) -> Result<Sealed, ImageStoreError> {
    let parts = Parts::of(&staged.record, &image.descriptor());
    for bytes in [parts.config, parts.record] {
        let blob = oci::describe("application/octet-stream".into(), &bytes);
        wire.bring(repository, &[], &blob, Source::Bytes(Bytes::from(bytes))).await?;
    }
    Ok(Sealed::read(Bytes::from(parts.manifest)).expect("invariant: a manifest that was just written can be read"))
}

fn place(folder: &Path, digest: &Digest) -> PathBuf {
    folder.join("blobs/sha256").join(digest.hex())
}
