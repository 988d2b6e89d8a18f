//! An OCI image layout in a folder: `oci-layout`, `index.json`, `blobs/sha256/`, and our own `.lock`, `.in-use`,
//! `claims/` and `staging/`. Its methods block. Not responsible for: promotion and collection (see `promote`,
//! `collect`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use oci_spec::image::{Descriptor, ImageManifest};

use super::files::{failed, make_folder, open_lock, try_lock, write_whole};
use super::index::Index;
use super::parts;
use crate::domain::base::{Digest, LayerName, Platform, Timestamp};
use crate::domain::model::{ImageRecord, KEY_LABEL, LayerKey};
use crate::domain::ports::{Found, ImageConfig, ImageStoreError};
use crate::system::files::is_there;
use crate::system::oci::{self, ConfigFile, Manifest};

/// An OCI image layout in a folder. Clones share the cached index.
#[derive(Debug, Clone)]
pub struct OciLayout {
    root: PathBuf,
    /// Cached until the file changes, because a plan looks up every layer.
    cached: Arc<Mutex<Option<Cached>>>,
}

type Cached = (Stamp, Arc<Index>);
type Stamp = (u64, u64, Option<SystemTime>);

/// Prevents collection of the layout's images until it is dropped.
#[derive(Debug)]
pub struct LayoutInUse {
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
    /// When it was promoted, if lian-build promoted it.
    pub promoted_at: Option<Timestamp>,
    /// Bytes of its blobs, including shared ones.
    pub bytes: u64,
}

impl OciLayout {
    /// Opens the layout in this folder; creates it if missing.
    ///
    /// # Errors
    /// [`ImageStoreError::Io`].
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, ImageStoreError> {
        let layout = Self { root: root.into(), cached: Arc::default() };
        make_folder(&layout.blobs())?;
        let marker = layout.root.join("oci-layout");
        if !marker.is_file() {
            write_whole(&marker, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        // Check again under the lock: another process may have created it and promoted an image meanwhile.
        // An index that cannot be looked at is not replaced by an empty one.
        if !Self::is_at(&layout.root)? {
            let _lock = super::files::lock(&layout.lock_path())?;
            if !Self::is_at(&layout.root)? {
                Index::default().write(&layout.index_path())?;
            }
        }
        Ok(layout)
    }

    /// Whether a folder holds a layout.
    ///
    /// # Errors
    /// [`ImageStoreError::Io`] if that is not known.
    pub fn is_at(root: &Path) -> Result<bool, ImageStoreError> {
        let index = root.join("index.json");
        is_there(&index).map_err(|error| failed("cannot look at", &index, error))
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Prevents collection of its images. Waits for a running collection.
    ///
    /// # Errors
    /// [`ImageStoreError::Io`].
    pub fn in_use(&self) -> Result<LayoutInUse, ImageStoreError> {
        let path = self.in_use_path();
        let file = open_lock(&path)?;
        while !try_lock(&file, &path, true)? {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Ok(LayoutInUse { _share: file })
    }

    /// All tags of images, sorted.
    ///
    /// # Errors
    /// [`ImageStoreError`] if the index cannot be read.
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

    pub(super) fn claims(&self) -> PathBuf {
        self.root.join("claims")
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
        Manifest::read(&std::fs::read(self.blob(digest)).ok()?).ok()
    }

    /// The descriptor of a manifest in this layout.
    pub(super) fn descriptor(&self, digest: &Digest) -> Option<Descriptor> {
        let bytes = std::fs::read(self.blob(digest)).ok()?;
        Some(oci::describe(Manifest::read(&bytes).ok()?.media_type(), &bytes))
    }

    /// All blobs that a manifest or index references, including itself, with their sizes. What is missing or no manifest is
    /// not followed.
    pub(super) fn closure(&self, digest: &Digest) -> BTreeSet<(Digest, u64)> {
        self.follow(digest, |_, _| Ok(())).unwrap_or_default()
    }

    /// The same, for whoever removes all else: what is there and cannot be read may need anything.
    pub(super) fn whole_closure(&self, digest: &Digest) -> Result<BTreeSet<(Digest, u64)>, ImageStoreError> {
        self.follow(digest, |path, error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(failed("nothing is removed: cannot read", path, error)),
        })
    }

    fn follow(
        &self,
        digest: &Digest,
        unread: impl Fn(&Path, std::io::Error) -> Result<(), ImageStoreError>,
    ) -> Result<BTreeSet<(Digest, u64)>, ImageStoreError> {
        let mut found = BTreeSet::new();
        let mut waiting = vec![digest.clone()];
        while let Some(digest) = waiting.pop() {
            let path = self.blob(&digest);
            let size = std::fs::metadata(&path).map_or(0, |meta| meta.len());
            if !found.insert((digest, size)) {
                continue;
            }
            let bytes = match std::fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) => {
                    unread(&path, error)?;
                    continue;
                }
            };
            let Ok(manifest) = Manifest::read(&bytes) else { continue };
            found.extend(manifest.blobs().map(|blob| (oci::digest(blob), blob.size())));
            waiting.extend(manifest.children().iter().map(oci::digest));
        }
        Ok(found)
    }

    /// The image manifest. From an index, the manifest of the platform is chosen.
    fn image(&self, top: &Manifest, platform: Option<&Platform>) -> Option<Manifest> {
        match top {
            Manifest::Image(_) => Some(top.clone()),
            Manifest::Index(_) => self.manifest(&oci::digest(top.image_for(platform)?)),
        }
    }

    fn config_of(&self, image: &Manifest) -> Option<ConfigFile> {
        ConfigFile::read(&std::fs::read(self.blob(&oci::digest(image.config()?))).ok()?)
    }

    /// Whether a blob exists with its full size.
    fn has(&self, blob: &Descriptor) -> bool {
        std::fs::metadata(self.blob(&oci::digest(blob))).is_ok_and(|meta| meta.len() == blob.size())
    }

    /// The image, if all its blobs are complete.
    fn whole(&self, digest: &Digest) -> Option<Found> {
        let top = self.manifest(digest)?;
        let image = self.image(&top, None)?;
        if !top.children().iter().chain(image.blobs()).all(|blob| self.has(blob)) {
            return None;
        }
        let config = self.config_of(&image)?;
        Some(Found {
            digest: digest.clone(),
            key: config.label(KEY_LABEL).and_then(|key| key.parse().ok()).map(LayerKey),
            platform: Some(config.platform()),
            bytes: self.closure(digest).iter().map(|(_, size)| size).sum(),
        })
    }

    /// The image of a tag. An image with incomplete blobs counts as absent, so that it is built again.
    pub(super) fn find(&self, name: &str, tag: &str) -> Result<Option<Found>, ImageStoreError> {
        let Some(entry) = self.index()?.find(name, tag) else { return Ok(None) };
        let found = self.whole(&entry.digest);
        if found.is_none() {
            tracing::warn!(name, tag, digest = %entry.digest, "the image is damaged: blobs are missing or truncated");
        }
        Ok(found)
    }

    /// The record of a tag's image.
    pub(super) fn record(&self, name: &str, tag: &str) -> Result<Option<ImageRecord>, ImageStoreError> {
        let index = self.index()?;
        let Some(image) = index.find(name, tag) else { return Ok(None) };
        Ok(self.parts(&index, name, &image.digest).and_then(|artifact| self.record_in(&artifact)))
    }

    /// The parent images that an image was built on. An incomplete record counts as absent.
    pub(super) fn built_on(
        &self,
        name: &str,
        image: &Digest,
    ) -> Result<Option<BTreeMap<LayerName, Digest>>, ImageStoreError> {
        let Some(artifact) = self.parts(&*self.index()?, name, image) else { return Ok(None) };
        Ok(match parts::built_on(&artifact) {
            Some(built_on) => parts::record_in(&artifact).filter(|blob| self.has(blob)).map(|_| built_on),
            None => self.record_in(&artifact).map(|record| record.built_on),
        })
    }

    /// The artifact attached to an image.
    fn parts(&self, index: &Index, name: &str, image: &Digest) -> Option<Box<ImageManifest>> {
        match self.manifest(&index.belonging(image, name)?.digest)? {
            Manifest::Image(artifact) => Some(artifact),
            Manifest::Index(_) => None,
        }
    }

    fn record_in(&self, artifact: &ImageManifest) -> Option<ImageRecord> {
        let blob = oci::digest(parts::record_in(artifact)?);
        serde_json::from_slice(&std::fs::read(self.blob(&blob)).ok()?).ok()
    }

    /// The process settings in an image's config, for a platform.
    pub(super) fn config(&self, digest: &Digest, platform: &Platform) -> Option<ImageConfig> {
        let image = self.image(&self.manifest(digest)?, Some(platform))?;
        Some(self.config_of(&image)?.processes())
    }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
