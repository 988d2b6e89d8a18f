//! An OCI image layout in a folder: `oci-layout`, `index.json`, `blobs/sha256/`, and our own `.lock`, `.in-use`,
//! `claims/` and `staging/`. Its methods block. Not responsible for: which images may be used again (see `reuse`),
//! promotion and collection (see `promote`, `collect`).

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use oci_spec::image::Descriptor;

use super::checked::{Checked, Damage};
use super::files::{failed, lock, lock_folder, make_folder, open_lock, try_lock, write_whole};
use super::index::{self, Index};
use super::marks::Marks;
use crate::domain::base::{Digest, Platform, Timestamp};
use crate::domain::ports::{ImageConfig, ImageStoreError};
use crate::system::confined::{self, Folder};
use crate::system::files::is_there;
use crate::system::oci::{self, ConfigFile, Manifest};

/// Where a layout has its blobs.
pub(super) const BLOBS: &str = "blobs/sha256";
/// The most bytes of a manifest or a config that are read: registries take no larger manifests.
pub(super) const MOST_OF_MANIFEST: u64 = 4 << 20;

/// An OCI image layout in a folder. Clones share what they know of it.
#[derive(Debug, Clone)]
pub struct OciLayout {
    root: PathBuf,
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    /// Cached until the file changes, because a plan looks up every layer.
    cached: Mutex<Option<Cached>>,
    pub(super) folder: Folder,
    pub(super) blobs: Folder,
    pub(super) marks: Marks,
    pub(super) checked: Checked,
    /// Damaged images that were told.
    pub(super) told: Mutex<BTreeSet<Digest>>,
}

type Cached = (Stamp, Arc<Index>);
type Stamp = (u64, u64, Option<SystemTime>);

/// Prevents collection of the layout's images until it is dropped.
#[derive(Debug)]
pub struct LayoutInUse {
    _shares: [Option<File>; 2],
}

/// The right to change the layout's index, until it is dropped: on the lock file, and on the folder itself in case that
/// somebody removes the file.
pub(super) struct Alone {
    _locks: (File, Option<File>),
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
    /// Opens the layout in this folder; creates it if missing. Its images are this user's if they are marked with the
    /// key in the folder `user`.
    ///
    /// # Errors
    /// [`ImageStoreError::Io`].
    pub fn open(root: impl Into<PathBuf>, user: &Path) -> Result<Self, ImageStoreError> {
        let root: PathBuf = root.into();
        make_folder(&root)?;
        let unusable = |error| failed("cannot use the folder", &root.join(BLOBS), error);
        let folder = confined::open(&root).map_err(|error| failed("cannot open the folder", &root, error))?;
        let blobs = folder.make_folder(BLOBS).map_err(unusable)?;
        let shared = Shared {
            cached: Mutex::default(),
            marks: Marks::of(user),
            checked: Checked::of(folder.path(), user),
            folder,
            blobs,
            told: Mutex::default(),
        };
        let layout = Self { root, shared: Arc::new(shared) };
        let marker = layout.root.join("oci-layout");
        if !marker.is_file() {
            write_whole(&marker, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        // Check again under the lock: another process may have created it and promoted an image meanwhile.
        // An index that cannot be looked at is not replaced by an empty one.
        if !Self::is_at(&layout.root)? {
            let _alone = layout.alone()?;
            if !Self::is_at(&layout.root)? {
                Index::default().write(&layout.shared.folder)?;
            }
        }
        Ok(layout)
    }

    /// Whether a folder holds a layout.
    ///
    /// # Errors
    /// [`ImageStoreError::Io`] if that is not known.
    pub fn is_at(root: &Path) -> Result<bool, ImageStoreError> {
        let index = root.join(index::FILE);
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
        // The folder of the blobs is a second witness, in case that somebody removes the file.
        let shares = [Some(open_lock(&path)?), self.shared.blobs.handle().ok()];
        for share in shares.iter().flatten() {
            while !try_lock(share, &path, true)? {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
        Ok(LayoutInUse { _shares: shares })
    }

    /// Waits for the right to change the index.
    pub(super) fn alone(&self) -> Result<Alone, ImageStoreError> {
        Ok(Alone { _locks: (lock(&self.root.join(".lock"))?, lock_folder(&self.shared.folder)) })
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
                let bytes = self.closure(&entry.digest).iter().fold(0u64, |sum, (_, size)| sum.saturating_add(*size));
                let (name, tag) = (name.to_owned(), tag.to_owned());
                Some(Listed { name, tag, digest: entry.digest.clone(), promoted_at: entry.promoted_at, bytes })
            })
            .collect();
        list.sort_by(|left, right| (&left.name, &left.tag).cmp(&(&right.name, &right.tag)));
        Ok(list)
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join(BLOBS)
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub(super) fn index_path(&self) -> PathBuf {
        self.root.join(index::FILE)
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
        let mut cached = self.shared.cached.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let (Some(stamp), Some((known, index))) = (stamp, cached.as_ref())
            && stamp == *known
        {
            return Ok(Arc::clone(index));
        }
        let index = Arc::new(Index::read(&self.shared.folder)?);
        *cached = stamp.map(|stamp| (stamp, Arc::clone(&index)));
        Ok(index)
    }

    /// A small blob, whose content is what its digest says.
    pub(super) fn content(&self, digest: &Digest, most: u64) -> Result<Vec<u8>, Damage> {
        let damage = |what: String| Damage { blob: digest.clone(), what };
        let bytes = self.shared.blobs.read(digest.hex(), most).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => damage("it is missing".to_owned()),
            _ => damage(format!("it cannot be read: {error}")),
        })?;
        match Digest::of(&bytes) == *digest {
            true => Ok(bytes),
            false => Err(damage("its content has another digest".to_owned())),
        }
    }

    /// A manifest or an index, and its size.
    pub(super) fn sized_manifest(&self, digest: &Digest) -> Result<(Manifest, u64), Damage> {
        let bytes = self.content(digest, MOST_OF_MANIFEST)?;
        let read = Manifest::read(&bytes);
        let read =
            read.map_err(|error| Damage { blob: digest.clone(), what: format!("it is no manifest: {error}") })?;
        Ok((read, bytes.len() as u64))
    }

    pub(super) fn manifest(&self, digest: &Digest) -> Result<Manifest, Damage> {
        self.sized_manifest(digest).map(|(manifest, _)| manifest)
    }

    /// The descriptor of a manifest in this layout.
    pub(super) fn descriptor(&self, digest: &Digest) -> Option<Descriptor> {
        let bytes = self.content(digest, MOST_OF_MANIFEST).ok()?;
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
            let size = std::fs::symlink_metadata(&path).map_or(0, |meta| meta.len());
            if !found.insert((digest.clone(), size)) {
                continue;
            }
            let bytes = match self.shared.blobs.read(digest.hex(), MOST_OF_MANIFEST) {
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
    pub(super) fn image(&self, top: &Manifest, platform: Option<&Platform>) -> Option<Result<Manifest, Damage>> {
        match top {
            Manifest::Image(_) => Some(Ok(top.clone())),
            Manifest::Index(_) => Some(self.manifest(&oci::digest(top.image_for(platform)?))),
        }
    }

    pub(super) fn config_of(&self, image: &Manifest) -> Option<Result<ConfigFile, Damage>> {
        let blob = oci::digest(image.config()?);
        Some(self.content(&blob, MOST_OF_MANIFEST).and_then(|bytes| {
            ConfigFile::read(&bytes).ok_or_else(|| Damage { blob, what: "it is no image's config".to_owned() })
        }))
    }

    /// The process settings in an image's config, for a platform.
    pub(super) fn config(&self, digest: &Digest, platform: &Platform) -> Option<ImageConfig> {
        let image = self.image(&self.manifest(digest).ok()?, Some(platform))?.ok()?;
        Some(self.config_of(&image)?.ok()?.processes())
    }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
pub(super) mod tests;
