//! Where images live and how their tags move. Not responsible for: building them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use crate::domain::base::{Digest, LayerName, Platform};
use crate::domain::model::{Classified, FaultClass, ImageName, ImageRecord, LayerKey};

use super::image::{ImageConfig, ImageSource, PushTarget};

/// An image that a tag points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The manifest's (or index's) digest.
    pub digest: Digest,
    /// The full layer key in its label, where it has one.
    pub key: Option<LayerKey>,
    /// Its platform, e.g. `linux/amd64`, where its config says so.
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
    /// Kept beside the image, so that a later plan can say what changed.
    pub record: ImageRecord,
    /// Place and digest of the artifacts image, promoted as `<name>-artifacts` in the same breath.
    pub artifacts: Option<(StagedAt, Digest)>,
}

/// Where an image waits for its promotion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StagedAt {
    /// In this folder, an OCI layout.
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
        /// What was tried.
        what: String,
        /// Where.
        path: PathBuf,
        /// The next action.
        help: String,
        /// The system's answer.
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
        /// What it said.
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

/// The way out of damage: an index is moved away and written anew, an image is dropped and built again.
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

/// The right to build a key, given up when dropped.
pub trait Claim: Send + Sync {}

/// A hold on the store's images: none is removed until this is dropped.
pub trait InUse: Send + Sync {}

/// Where images live. An implementation does its file work on threads that may block.
#[async_trait]
pub trait ImageStore: Send + Sync {
    /// The image that `<name>:<tag>` points to.
    async fn find(&self, name: &str, tag: &str) -> Result<Option<Found>, ImageStoreError>;

    /// What is kept beside the image that `<name>:<tag>` points to. A damaged or absent record is `None`.
    async fn record(&self, name: &str, tag: &str) -> Result<Option<ImageRecord>, ImageStoreError>;

    /// The parents' images that `image`, the image of this key, was built on. `None` where its record is damaged or absent. A
    /// store overrides this where it can tell them without reading the whole record, which lists every file of the context.
    async fn built_on(
        &self,
        name: &str,
        key: &LayerKey,
        _image: &Digest,
    ) -> Result<Option<BTreeMap<LayerName, Digest>>, ImageStoreError> {
        Ok(self.record(name, &key.tag()).await?.map(|record| record.built_on))
    }

    /// Points a tag (`latest`) to the image of this key, and the same tag of its artifacts image. Returns whether anything
    /// moved. An image that is not there moves nothing.
    async fn point(&self, name: &str, tag: &str, key: &LayerKey) -> Result<bool, ImageStoreError>;

    /// Claims the building of a key. `None` while another run builds it. A claim ends with its holder.
    async fn claim(&self, key: &LayerKey) -> Result<Option<Box<dyn Claim>>, ImageStoreError>;

    /// A fresh, private, empty folder on the store's own file system.
    async fn staging(&self) -> Result<Box<dyn StagingFolder>, ImageStoreError>;

    /// How a builder reaches an image of this store.
    fn source(&self, name: &str, digest: &Digest) -> ImageSource;

    /// Where a builder pushes images of this name to, if builders can push to this store.
    fn push_target(&self, _name: &str) -> Option<PushTarget> {
        None
    }

    /// What the image with this digest says of its processes on a platform. `None` where that cannot be read.
    async fn config(
        &self,
        _name: &str,
        _digest: &Digest,
        _platform: &Platform,
    ) -> Result<Option<ImageConfig>, ImageStoreError> {
        Ok(None)
    }

    /// Moves the blobs of a staged image into the store, then its tags `latest` and `key-…` onto it. `latest` moves last: if
    /// this is interrupted, no tag has moved, or the next run completes it.
    async fn promote(&self, staged: &Staged) -> Result<(), ImageStoreError>;

    /// Keeps the store's images from being removed by other processes of this machine. `None` where no process can.
    async fn in_use(&self) -> Result<Option<Box<dyn InUse>>, ImageStoreError> {
        Ok(None)
    }

    /// Removes what nothing needs any more. A store that others clean up does nothing.
    async fn tidy(&self) -> Result<(), ImageStoreError> {
        Ok(())
    }

    /// The names of the images that have a `latest`; empty where the store cannot list them.
    async fn built(&self) -> Result<Vec<String>, ImageStoreError> {
        Ok(Vec::new())
    }
}
