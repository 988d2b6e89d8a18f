//! What builders and image stores tell each other of an image: where its bytes are, where it is pushed to, what its config
//! says. Not responsible for: building or storing it.

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

/// Where a builder pushes an image to, by its digest alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushTarget {
    /// `host[:port]/repository`, without a tag.
    pub name: String,
    /// Whether the registry is spoken to without TLS.
    pub plain_http: bool,
}

/// What an image says about the processes that run in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// Its environment, `NAME=value`.
    pub env: Vec<String>,
    /// Instructions that a Dockerfile which starts from it would run.
    pub on_build: Vec<String>,
}
