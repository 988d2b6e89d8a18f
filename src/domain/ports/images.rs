//! The interface for storing images and moving their tags. Not responsible for: building them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use crate::domain::base::{Digest, LayerName, Platform};
use crate::domain::model::{Classified, FaultClass, ImageName, ImageRecord, LayerKey, Unusable};

use super::image::{ImageConfig, ImageSource, PushTarget};

/// An image that a tag points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The manifest's (or index's) digest.
    pub digest: Digest,
    /// The full layer key in its label, if present.
    pub key: Option<LayerKey>,
    /// Its platform, e.g. `linux/amd64`, if its config contains one.
    pub platform: Option<Platform>,
    /// Bytes of its blobs as stored.
    pub bytes: u64,
}

/// A built and verified image that waits to be promoted.
#[derive(Debug, Clone)]
pub struct Staged {
    /// `<namespace>/<layer>`.
    pub name: ImageName,
    /// Where the image is.
    pub staging: StagedAt,
    /// The image in it.
    pub digest: Digest,
    /// Its key: becomes the tag `key-…`.
    pub key: LayerKey,
    /// Stored beside the image, so that a later plan can tell what changed.
    pub record: ImageRecord,
    /// Location and digest of the artifacts image, promoted together as `<name>-artifacts`.
    pub artifacts: Option<(StagedAt, Digest)>,
}

/// Where an image waits for its promotion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StagedAt {
    /// In an OCI layout in this folder.
    Folder(PathBuf),
    /// In the store itself, by its digest and without a tag: its builder pushed it there.
    Pushed,
}

/// A registry or layout failed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ImageStoreError {
    /// Files could not be read or written.
    #[error("{what}: {path}")]
    #[diagnostic(code(lian::registries::io), help("{help}"))]
    Io {
        /// The operation.
        what: String,
        /// The path.
        path: PathBuf,
        /// The next action.
        help: String,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// A blob or an index is not what its digest or its media type says.
    #[error("{path} is damaged: {what}")]
    #[diagnostic(code(lian::registries::corrupt), help("{}", mend(name, path)))]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// The image it belongs to.
        name: String,
    },
    /// The registry did not answer, or refused.
    #[error("{registry} {what}")]
    #[diagnostic(code(lian::registries::remote), help("{help}"))]
    Remote {
        /// The host.
        registry: String,
        /// Its answer.
        what: String,
        /// The next action.
        help: String,
    },
}

impl Classified for ImageStoreError {
    fn class(&self) -> FaultClass {
        FaultClass::Unavailable
    }
}

/// How to repair damage: a damaged index is moved away and recreated, an image is dropped and rebuilt.
fn mend(name: &str, path: &Path) -> String {
    if path.ends_with("index.json") {
        format!("move {} away: images are built again, mostly from BuildKit's cache", path.display())
    } else {
        format!("delete the image with `lian-build gc --drop {name}` and build it again")
    }
}

/// A private folder that is removed when this is dropped.
pub trait StagingFolder: Send + Sync {
    /// The folder.
    fn path(&self) -> &Path;
}

/// The right to build a key; dropping it gives up the right.
pub trait Claim: Send + Sync {}

/// Protects the store's images: none is removed until this is dropped.
pub trait InUse: Send + Sync {}

/// Stores images. Implementations do file work on threads that may block.
#[async_trait]
pub trait ImageStore: Send + Sync {
    /// The image that `<name>:<tag>` points to.
    async fn find(&self, name: &str, tag: &str) -> Result<Option<Found>, ImageStoreError>;

    /// The record stored beside the image of `<name>:<tag>`. `None` if damaged or absent.
    async fn record(&self, name: &str, tag: &str) -> Result<Option<ImageRecord>, ImageStoreError>;

    /// The parents' images that `image`, with this key, was built on. `None` if its record is damaged or absent. A
    /// store overrides this to avoid reading the whole record, which lists every file of the context.
    async fn built_on(
        &self,
        name: &str,
        key: &LayerKey,
        _image: &Digest,
    ) -> Result<Option<BTreeMap<LayerName, Digest>>, ImageStoreError> {
        Ok(self.record(name, &key.tag()).await?.map(|record| record.built_on))
    }

    /// Why [`Self::find`] and [`Self::built_on`] give no image of this key although one is there; `None` if none is, or if
    /// it can be used.
    async fn unusable(&self, _name: &str, _key: &LayerKey) -> Result<Option<Unusable>, ImageStoreError> {
        Ok(None)
    }

    /// Whether the image that is about to be handed to a builder is whole, all digests checked.
    ///
    /// # Errors
    /// [`ImageStoreError::Corrupt`] names the first part that is not.
    async fn check(&self, _name: &str, _digest: &Digest) -> Result<(), ImageStoreError> {
        Ok(())
    }

    /// Points a tag (`latest`) at the image of this key, and the same tag of its artifacts image. Returns whether
    /// anything moved. Does nothing if the image does not exist.
    async fn point(&self, name: &str, tag: &str, key: &LayerKey) -> Result<bool, ImageStoreError>;

    /// Claims the right to build a key. `None` while another run builds it. A claim ends when dropped or with its
    /// process.
    async fn claim(&self, key: &LayerKey) -> Result<Option<Box<dyn Claim>>, ImageStoreError>;

    /// A fresh, private, empty folder on the store's own file system.
    async fn staging(&self) -> Result<Box<dyn StagingFolder>, ImageStoreError>;

    /// How a builder reaches an image of this store.
    fn source(&self, name: &str, digest: &Digest) -> ImageSource;

    /// The folder of an OCI layout that holds the image: the store's own, or `scratch`, where the image of this platform
    /// is fetched to.
    async fn layout_of(
        &self,
        name: &str,
        digest: &Digest,
        _platform: &Platform,
        scratch: &Path,
    ) -> Result<PathBuf, ImageStoreError> {
        Ok(match self.source(name, digest) {
            ImageSource::Layout { dir, .. } => dir,
            ImageSource::Registry { .. } => scratch.to_owned(),
        })
    }

    /// Where a builder pushes images of this name to, if builders can push to this store.
    fn push_target(&self, _name: &str) -> Option<PushTarget> {
        None
    }

    /// The config of the image with this digest, for a platform. `None` if it cannot be read.
    async fn config(
        &self,
        _name: &str,
        _digest: &Digest,
        _platform: &Platform,
    ) -> Result<Option<ImageConfig>, ImageStoreError> {
        Ok(None)
    }

    /// Moves the blobs of a staged image into the store, then its tags `latest` and `key-…` onto it. `latest` moves
    /// last: if this is interrupted, no tag has moved, or the next run completes it.
    async fn promote(&self, staged: &Staged) -> Result<(), ImageStoreError>;

    /// Makes the cache that was written last to this repository ([`super::NEXT_CACHE`]) the one that is read. Returns
    /// whether there is one.
    async fn promote_cache(&self, _repository: &str) -> Result<bool, ImageStoreError> {
        Ok(false)
    }

    /// Keeps the store's images from being removed by other processes of this machine. `None` where no process can.
    async fn in_use(&self) -> Result<Option<Box<dyn InUse>>, ImageStoreError> {
        Ok(None)
    }

    /// Removes unused data. Does nothing in a store that others clean up.
    async fn tidy(&self) -> Result<(), ImageStoreError> {
        Ok(())
    }

    /// Tries to read and to write, and leaves nothing. Returns the store's place, for people.
    async fn probe(&self) -> Result<String, ImageStoreError> {
        Ok(self.staging().await?.path().parent().unwrap_or(Path::new(".")).display().to_string())
    }

    /// The names of the images with a `latest` tag; empty if the store cannot list them.
    async fn built(&self) -> Result<Vec<String>, ImageStoreError> {
        Ok(Vec::new())
    }
}
