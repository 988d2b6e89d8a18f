//! An OCI image layout as an image store: `oci-layout`, `index.json`, `blobs/sha256/`, and of our own `.lock`, `.in-use`
//! and `staging/`. Not responsible for: believing an index whose blobs are not there.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use super::descriptor::{ConfigFile, Descriptor, Manifest};
use super::files::{make_folder, open_lock, try_lock, write_whole};
use super::index::Index;
use super::{parts, promote, staging};
use crate::domain::base::{Digest, Timestamp};
use crate::domain::model::{ImageRecord, LayerKey};
use crate::domain::ports::{
    Claim, Found, ImageConfig, ImageSource, ImageStore, ImageStoreError, Staged, StagingFolder,
};
use crate::system::now;

/// An OCI image layout in a folder.
#[derive(Debug)]
pub struct OciLayout {
    root: PathBuf,
    /// A plan asks for every layer: the index is read once for as long as the file is the same.
    cached: Mutex<Option<(Stamp, Arc<Index>)>>,
}

type Stamp = (u64, u64, Option<SystemTime>);

/// Says that images of the layout are being used: for as long as it is held, nothing is collected.
#[derive(Debug)]
pub struct InUse {
    _share: File,
}

/// A tag of a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// `<namespace>/<layer>`.
    pub name: String,
    /// `latest`, `key-…`.
    pub tag: String,
    /// The image.
    pub digest: Digest,
    /// When it was promoted, where it was promoted by lian-build.
    pub promoted_at: Option<Timestamp>,
    /// Bytes of its blobs, those that it shares with others included.
    pub bytes: u64,
}

impl OciLayout {
    /// Opens the layout in this folder, and makes it where there is none.
    ///
    /// # Errors
    /// [`ImageStoreError::Io`].
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, ImageStoreError> {
        let layout = Self { root: root.into(), cached: Mutex::new(None) };
        make_folder(&layout.blobs())?;
        let marker = layout.root.join("oci-layout");
        if !marker.is_file() {
            write_whole(&marker, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        // Two that open at once must not overwrite what one has promoted meanwhile.
        if !layout.index_path().is_file() {
            let _lock = super::files::lock(&layout.lock_path())?;
            if !layout.index_path().is_file() {
                Index::default().write(&layout.index_path())?;
            }
        }
        Ok(layout)
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Says that its images are in use. Waits for a collection that is going on.
    ///
    /// # Errors
    /// [`ImageStoreError::Io`].
    pub fn in_use(&self) -> Result<InUse, ImageStoreError> {
        let path = self.in_use_path();
        let file = open_lock(&path)?;
        while !try_lock(&file, &path, true)? {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Ok(InUse { _share: file })
    }

    /// All tags of images, sorted.
    ///
    /// # Errors
    /// [`ImageStoreError`] where the index cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>, ImageStoreError> {
        let index = self.index()?;
        let mut list: Vec<Listed> = index
            .entries()
            .filter(|entry| entry.subject.is_none())
            .filter_map(|entry| {
                let (name, tag) = entry.name_and_tag()?;
                let bytes = self.closure(&entry.digest).iter().map(|(_, size)| size).sum();
                let (name, tag) = (name.to_owned(), tag.to_owned());
                Some(Listed { name, tag, digest: entry.digest.clone(), promoted_at: entry.promoted_at, bytes })
            })
            .collect();
        list.sort_by(|left, right| (&left.name, &left.tag).cmp(&(&right.name, &right.tag)));
        Ok(list)
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub(super) fn index_path(&self) -> PathBuf {
        self.root.join("index.json")
    }

    pub(super) fn lock_path(&self) -> PathBuf {
        self.root.join(".lock")
    }

    pub(super) fn in_use_path(&self) -> PathBuf {
        self.root.join(".in-use")
    }

    pub(super) fn staging_root(&self) -> PathBuf {
        self.root.join("staging")
    }

    pub(super) fn index(&self) -> Result<Arc<Index>, ImageStoreError> {
        use std::os::unix::fs::MetadataExt as _;
        let path = self.index_path();
        let stamp = std::fs::metadata(&path).ok().map(|meta| (meta.ino(), meta.len(), meta.modified().ok()));
        let mut cached = self.cached.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let (Some(stamp), Some((known, index))) = (stamp, cached.as_ref())
            && stamp == *known
        {
            return Ok(Arc::clone(index));
        }
        let index = Arc::new(Index::read(&path)?);
        *cached = stamp.map(|stamp| (stamp, Arc::clone(&index)));
        Ok(index)
    }

    pub(super) fn manifest(&self, digest: &Digest) -> Option<Manifest> {
        serde_json::from_slice(&std::fs::read(self.blob(digest)).ok()?).ok()
    }

    /// How an index names a manifest of this layout.
    pub(super) fn descriptor(&self, digest: &Digest) -> Option<Descriptor> {
        let bytes = std::fs::read(self.blob(digest)).ok()?;
        let manifest: Manifest = serde_json::from_slice(&bytes).ok()?;
        let media_type = manifest.media_type.unwrap_or_else(|| super::descriptor::MANIFEST.to_owned());
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Some(Descriptor { media_type, digest: digest.clone(), size, platform: None })
    }

    /// Every blob that a manifest or index stands on, itself included, with its size. What cannot be read ends there.
    pub(super) fn closure(&self, digest: &Digest) -> BTreeSet<(Digest, u64)> {
        let mut found = BTreeSet::new();
        let mut waiting = vec![digest.clone()];
        while let Some(digest) = waiting.pop() {
            let size = std::fs::metadata(self.blob(&digest)).map_or(0, |meta| meta.len());
            if !found.insert((digest.clone(), size)) {
                continue;
            }
            let Some(manifest) = self.manifest(&digest) else { continue };
            found.extend(manifest.blobs().map(|blob| (blob.digest.clone(), blob.size)));
            waiting.extend(manifest.manifests.into_iter().map(|child| child.digest));
        }
        found
    }

    /// The image, if all its blobs are there in full.
    fn whole(&self, digest: &Digest) -> Option<Found> {
        let is_there =
            |blob: &Descriptor| std::fs::metadata(self.blob(&blob.digest)).is_ok_and(|m| m.len() == blob.size);
        let top = self.manifest(digest)?;
        let image = match &top.config {
            Some(_) => top.clone(),
            None => self.manifest(&top.image(None)?.digest)?,
        };
        let children = top.manifests.iter().all(is_there);
        if !children || !image.blobs().all(is_there) {
            return None;
        }
        let config: ConfigFile =
            serde_json::from_slice(&std::fs::read(self.blob(&image.config.as_ref()?.digest)).ok()?).ok()?;
        Some(Found {
            digest: digest.clone(),
            key: config.key(),
            platform: config.platform(),
            bytes: self.closure(digest).iter().map(|(_, size)| size).sum(),
        })
    }
}

impl ImageStore for OciLayout {
    /// An image whose blobs are not all there is as good as none: it is built again, which mends it.
    fn find(&self, name: &str, tag: &str) -> Result<Option<Found>, ImageStoreError> {
        let Some(entry) = self.index()?.find(name, tag) else { return Ok(None) };
        let found = self.whole(&entry.digest);
        if found.is_none() {
            tracing::warn!(name, tag, digest = %entry.digest, "the image is damaged: blobs are missing or cut off");
        }
        Ok(found)
    }

    fn record(&self, name: &str, tag: &str) -> Result<Option<ImageRecord>, ImageStoreError> {
        let index = self.index()?;
        let Some(image) = index.find(name, tag) else { return Ok(None) };
        let read = |entry: super::index::Entry| {
            let artifact = self.manifest(&entry.digest)?;
            let blob = parts::record_in(&artifact)?;
            serde_json::from_slice(&std::fs::read(self.blob(&blob.digest)).ok()?).ok()
        };
        Ok(index.belonging(&image.digest, name).and_then(read))
    }

    fn staging(&self) -> Result<Box<dyn StagingFolder>, ImageStoreError> {
        Ok(Box::new(staging::create(&self.staging_root())?))
    }

    fn source(&self, _name: &str, digest: &Digest) -> ImageSource {
        ImageSource::Layout { dir: self.root.clone(), digest: digest.clone() }
    }

    fn point(&self, name: &str, tag: &str, key: &LayerKey) -> Result<bool, ImageStoreError> {
        promote::point(self, (name, tag), key, now())
    }

    fn claim(&self, key: &LayerKey) -> Result<Option<Box<dyn Claim>>, ImageStoreError> {
        super::claim::claim(&self.root.join("claims"), key)
    }

    fn config(&self, _name: &str, digest: &Digest, platform: &str) -> Result<Option<ImageConfig>, ImageStoreError> {
        let read = || {
            let top = self.manifest(digest)?;
            let image = match &top.config {
                Some(_) => top,
                None => self.manifest(&top.image(Some(platform))?.digest)?,
            };
            let config = std::fs::read(self.blob(&image.config?.digest)).ok()?;
            serde_json::from_slice::<ConfigFile>(&config).ok()
        };
        Ok(read().map(ConfigFile::processes))
    }

    fn promote(&self, staged: &Staged) -> Result<(), ImageStoreError> {
        promote::promote(self, staged, now())
    }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
