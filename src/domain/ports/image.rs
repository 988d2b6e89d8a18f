//! Image data that builders and image stores exchange: where its bytes are, where to push it, what its config
//! contains. Not responsible for: building or storing it.

use std::path::PathBuf;

use crate::domain::base::Digest;

/// Where an image's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// An OCI image layout on this machine.
    Layout {
        /// The folder with `index.json`.
        dir: PathBuf,
        /// The manifest or index in it.
        digest: Digest,
    },
    /// A registry.
    Registry {
        /// `host/repository`, without tag or digest.
        name: String,
        /// The manifest or index in it.
        digest: Digest,
    },
}

impl ImageSource {
    /// The manifest or index.
    pub fn digest(&self) -> &Digest {
        match self {
            Self::Layout { digest, .. } | Self::Registry { digest, .. } => digest,
        }
    }
}

/// Where a builder pushes an image to, by its digest alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushTarget {
    /// `host[:port]/repository`, without a tag.
    pub name: String,
    /// Whether to use plain HTTP for the registry.
    pub plain_http: bool,
}

/// The process settings in an image's config.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// Its environment, `NAME=value`.
    pub env: Vec<String>,
    /// Instructions that run in a Dockerfile based on this image.
    pub on_build: Vec<String>,
}
