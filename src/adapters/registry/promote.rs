//! Promotes an image into a layout: fsynced blobs first, then all tags in one write of the index. If the process dies
//! in between, the layout stays valid; unreferenced blobs are collected later. Not responsible for: removing images.

use std::path::Path;

use oci_spec::image::{Descriptor, MediaType};

use super::files::{failed, lock, write_whole};
use super::index::{Index, NewTag};
use super::layout::OciLayout;
use super::marks::Marked;
use super::parts::{self, PARTS, Parts};
use crate::domain::base::{Digest, Timestamp};
use crate::domain::model::{ImageName, LATEST, LayerKey};
use crate::domain::ports::{ImageStoreError, Staged, StagedAt};
use crate::system::files::sync_folder;
use crate::system::oci::{self, Manifest};

impl OciLayout {
    /// Moves a staged image into the layout and sets its tags.
    pub(super) fn promote(&self, staged: &Staged, at: Timestamp) -> Result<(), ImageStoreError> {
        let _lock = lock(&self.lock_path())?;
        let index = prepare(self, staged, at)?;
        index.write(&self.shared.folder)
    }

    /// Points a tag of an image and its artifacts to the targets of its key's tag, in one write.
    pub(super) fn point(
        &self,
        name: &ImageName,
        tag: &str,
        key: &LayerKey,
        at: Timestamp,
    ) -> Result<bool, ImageStoreError> {
        let _lock = lock(&self.lock_path())?;
        let mut index = Index::read(&self.shared.folder)?;
        let mut moved = false;
        for name in [name.clone(), name.artifacts()] {
            let name = name.as_str();
            let Some(wanted) = index.find(name, &key.tag()) else { continue };
            let marks = &self.shared.marks;
            if !marks.is_own(&wanted, Some(key))? {
                continue;
            }
            if let Some(pointed) = index.find(name, tag)
                && pointed.digest == wanted.digest
                && marks.is_own(&pointed, Some(key))?
            {
                continue;
            }
            let Some(target) = self.descriptor(&wanted.digest) else { continue };
            let reference = format!("{name}:{tag}");
            let marked = Marked { reference: &reference, digest: &wanted.digest, subject: None, key: Some(key) };
            index.set(&NewTag { name, tag, target: &target, at, subject: None, mark: &marks.mark(&marked)? });
            moved = true;
        }
        if moved {
            index.write(&self.shared.folder)?;
        }
        Ok(moved)
    }
}

/// Everything but the last step: stores the blobs and returns the index to write.
pub(super) fn prepare(layout: &OciLayout, staged: &Staged, at: Timestamp) -> Result<Index, ImageStoreError> {
    let image = take(layout, folder(layout, &staged.staging), &staged.digest, staged.name.as_str())?;
    let artifacts_name = staged.name.artifacts();
    let artifacts = match &staged.artifacts {
        Some((at, digest)) => Some(take(layout, folder(layout, at), digest, artifacts_name.as_str())?),
        None => None,
    };
    let parts = write_parts(layout, staged, &image)?;
    sync_folder(&layout.blobs()).map_err(|error| failed("cannot make durable", &layout.blobs(), error))?;

    let key_tag = staged.key.tag();
    let mut index = Index::read(&layout.shared.folder)?;
    let mut set = |name: &str, tag: &str, target: &Descriptor, subject: Option<&Digest>| {
        let (reference, digest) = (format!("{name}:{tag}"), oci::digest(target));
        // A record needs no key of its own: it holds all that the key is made of.
        let key = subject.is_none().then_some(&staged.key);
        let mark = layout.shared.marks.mark(&Marked { reference: &reference, digest: &digest, subject, key })?;
        index.set(&NewTag { name, tag, target, at, subject, mark: &mark });
        Ok::<_, ImageStoreError>(())
    };
    for tag in [key_tag.as_str(), LATEST] {
        set(staged.name.as_str(), tag, &image, None)?;
        if let Some(artifacts) = &artifacts {
            set(artifacts_name.as_str(), tag, artifacts, None)?;
        }
    }
    set(staged.name.as_str(), &parts::tag(&key_tag), &parts, Some(&staged.digest))?;
    Ok(index)
}

/// Moves an image's blobs into the layout and returns its descriptor.
fn take(layout: &OciLayout, folder: &Path, digest: &Digest, name: &str) -> Result<Descriptor, ImageStoreError> {
    let staged = folder.join("blobs/sha256").join(digest.hex());
    let path = if staged.is_file() { staged } else { layout.blob(digest) };
    let bytes = std::fs::read(&path).map_err(|error| failed("cannot read the blob", &path, error))?;
    let damaged = |what: String| ImageStoreError::Corrupt { path: path.clone(), what, name: name.to_owned() };
    if Digest::of(&bytes) != *digest {
        return Err(damaged("its content has another digest".to_owned()));
    }
    let manifest = Manifest::read(&bytes).map_err(|error| damaged(format!("it is not a manifest: {error}")))?;
    for blob in manifest.blobs() {
        move_blob(layout, folder, blob, name)?;
    }
    for child in manifest.children() {
        take(layout, folder, &oci::digest(child), name)?;
    }
    let descriptor = oci::describe(manifest.media_type(), &bytes);
    // Manifests go last, so that the store never has one whose blobs are missing.
    move_blob(layout, folder, &descriptor, name)?;
    Ok(descriptor)
}

fn move_blob(layout: &OciLayout, folder: &Path, blob: &Descriptor, name: &str) -> Result<(), ImageStoreError> {
    let digest = oci::digest(blob);
    let target = layout.blob(&digest);
    let has = |path: &Path| std::fs::metadata(path).is_ok_and(|meta| meta.len() == blob.size());
    // A damaged one is replaced.
    if layout.shared.checked.check(&layout.shared.blobs, &digest, blob.size()).is_ok() {
        return Ok(());
    }
    let source = folder.join("blobs/sha256").join(digest.hex());
    if !has(&source) {
        let what = if source.exists() { "it is truncated" } else { "it is missing" };
        return Err(ImageStoreError::Corrupt { path: source, what: what.to_owned(), name: name.to_owned() });
    }
    let moved = std::fs::File::open(&source)
        .and_then(|file| file.sync_data())
        .and_then(|()| std::fs::rename(&source, &target))
        .or_else(|error| match error.kind() {
            // The artifacts may be in another staging folder.
            std::io::ErrorKind::CrossesDevices => copy(&source, &target),
            _ => Err(error),
        });
    moved.map_err(|error| failed("cannot move the blob to", &target, error))
}

fn copy(source: &Path, target: &Path) -> std::io::Result<()> {
    let folder = target.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".tmp-").tempfile_in(folder)?;
    std::io::copy(&mut std::fs::File::open(source)?, &mut file)?;
    file.as_file().sync_all()?;
    file.persist(target).map(drop).map_err(|error| error.error)
}

/// The folder with an image's blobs. The blobs of a pushed image are already in the layout, if anywhere.
fn folder<'a>(layout: &'a OciLayout, at: &'a StagedAt) -> &'a Path {
    match at {
        StagedAt::Folder(folder) => folder,
        StagedAt::Pushed => layout.root(),
    }
}

/// The key parts as an artifact with the image as its subject.
fn write_parts(layout: &OciLayout, staged: &Staged, image: &Descriptor) -> Result<Descriptor, ImageStoreError> {
    let parts = Parts::of(&staged.record, image);
    write_blob(layout, MediaType::EmptyJSON, &parts.config)?;
    write_blob(layout, PARTS.into(), &parts.record)?;
    write_blob(layout, MediaType::ImageManifest, &parts.manifest)
}

fn write_blob(layout: &OciLayout, media_type: MediaType, bytes: &[u8]) -> Result<Descriptor, ImageStoreError> {
    let blob = oci::describe(media_type, bytes);
    let digest = oci::digest(&blob);
    if layout.shared.checked.check(&layout.shared.blobs, &digest, blob.size()).is_err() {
        write_whole(&layout.blob(&digest), bytes)?;
    }
    Ok(blob)
}
