//! Promotes an image into a layout: fsynced blobs first, then all tags in one write of the index. If the process dies
//! in between, the layout stays valid; unreferenced blobs are collected later. Not responsible for: removing images.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use oci_spec::image::{Descriptor, MediaType};

use super::files::failed;
use super::index::{Index, NewTag};
use super::layout::{BLOBS, MOST_OF_MANIFEST, OciLayout};
use super::marks::Marked;
use super::parts::{self, PARTS, Parts};
use crate::domain::base::{Digest, Timestamp};
use crate::domain::model::{ImageName, LATEST, LayerKey};
use crate::domain::ports::{ImageStoreError, Staged, StagedAt};
use crate::system::confined::{self, Folder};
use crate::system::oci::{self, Manifest};

impl OciLayout {
    /// Moves a staged image into the layout and sets its tags.
    pub(super) fn promote(&self, staged: &Staged, at: Timestamp) -> Result<(), ImageStoreError> {
        let _alone = self.alone()?;
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
        let _alone = self.alone()?;
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
    let image = take(layout, &Source::open(layout, &staged.staging)?, &staged.digest, staged.name.as_str())?;
    let artifacts_name = staged.name.artifacts();
    let artifacts = match &staged.artifacts {
        Some((at, digest)) => Some(take(layout, &Source::open(layout, at)?, digest, artifacts_name.as_str())?),
        None => None,
    };
    let parts = write_parts(layout, staged, &image)?;
    let synced = layout.shared.blobs.handle().and_then(|folder| folder.sync_all());
    synced.map_err(|error| failed("cannot make durable", &layout.blobs(), error))?;

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

/// Moves an image's blobs into the layout and returns its descriptor. Each is looked at below the folder that was opened.
fn take(layout: &OciLayout, from: &Source, digest: &Digest, name: &str) -> Result<Descriptor, ImageStoreError> {
    let staged = from.blobs.as_ref().filter(|blobs| blobs.is_file(digest.hex()));
    let blobs = staged.unwrap_or(&layout.shared.blobs);
    let path = blobs.path().join(digest.hex());
    let bytes = blobs.read(digest.hex(), MOST_OF_MANIFEST);
    let bytes = bytes.map_err(|error| failed("cannot read the blob", &path, error))?;
    let damaged = |what: String| ImageStoreError::Corrupt { path: path.clone(), what, name: name.to_owned() };
    if Digest::of(&bytes) != *digest {
        return Err(damaged("its content has another digest".to_owned()));
    }
    let manifest = Manifest::read(&bytes).map_err(|error| damaged(format!("it is not a manifest: {error}")))?;
    for blob in manifest.blobs() {
        move_blob(layout, from, blob, name)?;
    }
    for child in manifest.children() {
        take(layout, from, &oci::digest(child), name)?;
    }
    let descriptor = oci::describe(manifest.media_type(), &bytes);
    // Manifests go last, so that the store never has one whose blobs are missing.
    move_blob(layout, from, &descriptor, name)?;
    Ok(descriptor)
}

fn move_blob(layout: &OciLayout, from: &Source, blob: &Descriptor, name: &str) -> Result<(), ImageStoreError> {
    let (digest, blobs) = (oci::digest(blob), &layout.shared.blobs);
    let check = || layout.shared.checked.check(blobs, &digest, blob.size());
    // A damaged one is replaced.
    if check().is_ok() {
        return Ok(());
    }
    let path = from.path.join(BLOBS).join(digest.hex());
    let damaged = |what: String| ImageStoreError::Corrupt { path: path.clone(), what, name: name.to_owned() };
    let staged = from.blobs.as_ref().filter(|blobs| blobs.is_file(digest.hex()));
    let staged = staged.ok_or_else(|| damaged("it is missing".to_owned()))?;
    let unmoved = |error| failed("cannot move the blob to", &layout.blob(&digest), error);
    let file = staged.open_file(digest.hex()).map_err(unmoved)?;
    if file.metadata().map_err(unmoved)?.len() != blob.size() {
        return Err(damaged("it is truncated".to_owned()));
    }
    let moved = file.sync_data().and_then(|()| staged.rename_to(digest.hex(), blobs, digest.hex()));
    let moved = moved.or_else(|error| match error.kind() {
        // The artifacts may be in another staging folder.
        ErrorKind::CrossesDevices => copy(&file, blobs, digest.hex()),
        _ => Err(error),
    });
    moved.map_err(unmoved)?;
    // What was moved is what is looked at. The next plan need not do it again.
    check().map_err(|damage| {
        let _ = blobs.remove_file(digest.hex());
        damaged(damage.what)
    })
}

fn copy(mut source: &File, blobs: &Folder, name: &str) -> io::Result<()> {
    let temporary = format!(".tmp-{name}-{}", std::process::id());
    // Only one process at a time promotes.
    let _ = blobs.remove_file(&temporary);
    let mut file = blobs.create_new(&temporary)?;
    let copied = io::copy(&mut source, &mut file).and_then(|_| file.sync_all());
    let placed = copied.and_then(|()| blobs.rename(&temporary, name));
    if placed.is_err() {
        let _ = blobs.remove_file(&temporary);
    }
    placed
}

/// Where an image's blobs come from.
struct Source {
    path: PathBuf,
    /// `None`: an image was pushed, and its blobs are in the layout, if anywhere.
    blobs: Option<Folder>,
}

impl Source {
    fn open(layout: &OciLayout, at: &StagedAt) -> Result<Self, ImageStoreError> {
        let StagedAt::Folder(path) = at else { return Ok(Self { path: layout.root().to_owned(), blobs: None }) };
        let opened = match path.strip_prefix(layout.root()) {
            // Nothing below the layout is a link.
            Ok(below) => layout.shared.folder.folder(below),
            Err(_) => confined::open_no_link(path),
        };
        let blobs = match opened.and_then(|folder| folder.folder(BLOBS)) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            opened => Some(opened.map_err(|error| failed("cannot open the folder", path, error))?),
        };
        Ok(Self { path: path.clone(), blobs })
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
        let written = layout.shared.blobs.write_whole(digest.hex(), bytes);
        written.map_err(|error| failed("cannot write", &layout.blob(&digest), error))?;
    }
    Ok(blob)
}
