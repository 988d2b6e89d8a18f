//! The pins of `lian.lock`: the digest of each external image. Not responsible for: reading or writing the file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::base::Digest;

/// One pinned external image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The manifest or index digest.
    pub digest: Digest,
    /// The `ONBUILD` lines in its config, as far as they are known: they run in what is built upon it. A lock without
    /// them is as valid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
}

impl Pin {
    /// A pin of an image of whose triggers nothing is known.
    pub fn new(digest: Digest) -> Self {
        Self { digest, on_build: Vec::new() }
    }
}

/// The content of `lian.lock`, beside the catalog. `apply` adds missing pins; only `update` changes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// The version of the file's structure.
    pub version: u32,
    /// The pins by normalised reference, such as `docker.io/library/debian:trixie-slim`.
    #[serde(default)]
    pub images: BTreeMap<String, Pin>,
}

impl Lock {
    /// The current version of the structure.
    pub const VERSION: u32 = 1;
}

impl Default for Lock {
    fn default() -> Self {
        Self { version: Self::VERSION, images: BTreeMap::new() }
    }
}
