//! Promotes an image to a registry: blobs, manifests by digest, a read-back, then tags with the same bytes. The key's
//! tag means that the image is complete, so it follows the record and the artifacts; `latest` is last. If the process
//! dies in between, no tag points to an incomplete or unverified image. Not responsible for: requests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use oci_spec::image::Descriptor;

use super::super::client::{Blob, Cause, Client, RawManifest};
use super::super::files::failed;
use super::super::layout::{BLOBS, MOST_OF_MANIFEST};
use super::super::parts::{self, Parts};
use super::address::Address;
use crate::domain::base::Digest;
use crate::domain::model::{ImageName, LATEST, LayerKey};
use crate::domain::ports::{ImageStoreError, Staged, StagedAt};
use crate::system::confined;
use crate::system::oci;

/// Parallel blob uploads: small blobs mostly wait for responses, and one connection limits a large one.
const UPLOADS: usize = 4;

/// An image being promoted to a repository.
struct Upload<'a> {
    client: &'a Client,
    /// `<namespace>/<layer>`.
    name: ImageName,
    repository: String,
    /// Repositories that may already have some of its blobs.
    beside: &'a [String],
}

pub(super) async fn promote(client: &Client, address: &Address, staged: &Staged) -> Result<(), ImageStoreError> {
    let beside = &beside(address, staged);
    let upload = |name: ImageName| Upload { client, repository: address.repository(name.as_str()), name, beside };
    let image = upload(staged.name.clone());
    let manifest = image.ensure(&staged.staging, &staged.digest).await?;
    let artifacts = match &staged.artifacts {
        Some((at, digest)) => {
            let artifacts = upload(staged.name.artifacts());
            Some((artifacts.ensure(at, digest).await?, artifacts.repository))
        }
        None => None,
    };
    let record = image.put_record(staged, &manifest).await?;
    let tag = staged.key.tag();
    client.put_manifest(&image.repository, &parts::tag(&tag), &record).await?;
    for tag in [tag.as_str(), LATEST] {
        if let Some((artifacts, repository)) = &artifacts {
            client.put_manifest(repository, tag, artifacts).await?;
        }
        client.put_manifest(&image.repository, tag, &manifest).await?;
    }
    Ok(())
}

/// Points a tag of an image and its artifacts to the targets of its key's tag.
pub(super) async fn point(
    client: &Client,
    address: &Address,
    name: &ImageName,
    tag: &str,
    key: &LayerKey,
) -> Result<bool, ImageStoreError> {
    let mut moved = false;
    for name in [name.artifacts(), name.clone()] {
        let repository = address.repository(name.as_str());
        let Some(wanted) = client.digest(&repository, &key.tag()).await? else { continue };
        if client.digest(&repository, tag).await?.as_ref() == Some(&wanted) {
            continue;
        }
        let Some(image) = client.manifest(&repository, wanted.as_str()).await? else { continue };
        client.put_manifest(&repository, tag, &image).await?;
        moved = true;
    }
    Ok(moved)
}

/// Repositories that may already hold blobs of this image: those of its parents, and its own.
fn beside(address: &Address, staged: &Staged) -> Vec<String> {
    let parents = staged.record.built_on.keys().map(|parent| staged.name.sibling(parent));
    parents.chain([staged.name.clone()]).map(|name| address.repository(name.as_str())).collect()
}

impl Upload<'_> {
    /// Ensures that the complete image is in the repository, by digest.
    async fn ensure(&self, at: &StagedAt, digest: &Digest) -> Result<RawManifest, ImageStoreError> {
        match at {
            StagedAt::Folder(folder) => self.push(folder, digest).await,
            StagedAt::Pushed => self.pushed(digest).await,
        }
    }

    /// Checks that an image pushed by the builder is complete.
    async fn pushed(&self, digest: &Digest) -> Result<RawManifest, ImageStoreError> {
        let lacks = |digest: &Digest| {
            let what = format!("lacks a part of the image that was pushed to {}: {digest}", self.repository);
            let help = "build the layer again with `--force`; nothing was promoted";
            ImageStoreError::from(self.client.error(Cause::Unusable { what, help }))
        };
        let mut top = None;
        let mut waiting = vec![digest.clone()];
        while let Some(digest) = waiting.pop() {
            let raw = self.client.manifest(&self.repository, digest.as_str()).await?.ok_or_else(|| lacks(&digest))?;
            for blob in raw.manifest.blobs().map(oci::digest) {
                if !self.client.has_blob(&self.repository, &blob).await? {
                    return Err(lacks(&blob));
                }
            }
            waiting.extend(raw.manifest.children().iter().map(oci::digest));
            top.get_or_insert(raw);
        }
        top.ok_or_else(|| lacks(digest))
    }

    /// Uploads an image that was exported to a folder.
    async fn push(&self, folder: &Path, digest: &Digest) -> Result<RawManifest, ImageStoreError> {
        let mut manifests = Vec::new();
        self.collect(folder, digest, &mut manifests)?;
        let named = manifests.iter().flat_map(|raw| raw.manifest.blobs());
        let blobs: BTreeMap<Digest, &Descriptor> = named.map(|blob| (oci::digest(blob), blob)).collect();
        let sent: Vec<_> = blobs.into_values().map(|blob| self.send_blob(folder, blob)).collect();
        stream::iter(sent).buffer_unordered(UPLOADS).try_collect::<()>().await?;
        for raw in &manifests {
            self.client.put_manifest(&self.repository, raw.digest.as_str(), raw).await?;
        }
        for raw in &manifests {
            self.client.verify_manifest(&self.repository, raw).await?;
        }
        Ok(manifests.pop().expect("invariant: the image itself was collected last"))
    }

    /// Uploads one blob of the folder. A blob missing from the export must already be in the registry.
    async fn send_blob(&self, folder: &Path, blob: &Descriptor) -> Result<(), ImageStoreError> {
        let digest = oci::digest(blob);
        let path = blob_path(folder, &digest);
        let size = std::fs::symlink_metadata(&path).map(|meta| meta.len());
        if size.as_ref().is_ok_and(|size| *size == blob.size()) {
            return Ok(self.client.ensure_blob(&self.repository, self.beside, blob, Blob::File(&path)).await?);
        }
        if self.client.has_blob(&self.repository, &digest).await? {
            return Ok(());
        }
        let what = if size.is_ok() { "it is truncated" } else { "it is missing" };
        Err(ImageStoreError::Corrupt { path, what: what.to_owned(), name: self.name.to_string() })
    }

    /// The manifests of an image in a folder, children first: a registry rejects a manifest whose children are
    /// missing.
    fn collect(&self, folder: &Path, digest: &Digest, found: &mut Vec<RawManifest>) -> Result<(), ImageStoreError> {
        let path = blob_path(folder, digest);
        let blobs = confined::open(folder).and_then(|folder| folder.folder(BLOBS));
        let bytes = blobs.and_then(|blobs| blobs.read(digest.hex(), MOST_OF_MANIFEST));
        let bytes = bytes.map_err(|error| failed("cannot read the blob", &path, error))?;
        let damaged = |what: String| {
            let (path, name) = (path.clone(), self.name.to_string());
            ImageStoreError::Corrupt { path, what, name }
        };
        let raw =
            RawManifest::read(Bytes::from(bytes)).map_err(|what| damaged(format!("it is not a manifest: {what}")))?;
        if raw.digest != *digest {
            return Err(damaged("its content has another digest".to_owned()));
        }
        for child in raw.manifest.children() {
            self.collect(folder, &oci::digest(child), found)?;
        }
        found.push(raw);
        Ok(())
    }

    /// Uploads the blobs of the image's record. Returns the artifact's manifest, with the image as its subject.
    async fn put_record(&self, staged: &Staged, image: &RawManifest) -> Result<RawManifest, ImageStoreError> {
        let parts = Parts::of(&staged.record, &image.descriptor());
        for bytes in [parts.config, parts.record] {
            let blob = oci::describe("application/octet-stream".into(), &bytes);
            self.client.ensure_blob(&self.repository, &[], &blob, Blob::Bytes(Bytes::from(bytes))).await?;
        }
        let manifest = RawManifest::read(Bytes::from(parts.manifest));
        Ok(manifest.expect("invariant: a manifest that was just written can be read"))
    }
}

fn blob_path(folder: &Path, digest: &Digest) -> PathBuf {
    folder.join(BLOBS).join(digest.hex())
}
