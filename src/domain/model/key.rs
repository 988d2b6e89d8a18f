//! The parts of a layer key: everything that decides a layer's content, in a form that two versions of it can be
//! compared in. Not responsible for: gathering the parts.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::layer::Tool;
use crate::domain::base::{Digest, LayerName, Platforms};

/// The label of an image's configuration that holds its full layer key.
pub const KEY_LABEL: &str = "dev.lian-build.layer-key";

/// The digest of everything that decides a layer's content.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LayerKey(pub Digest);

impl LayerKey {
    /// The image tag of this key: `key-` and twelve hex digits.
    pub fn tag(&self) -> String {
        format!("key-{}", self.0.short())
    }
}

impl fmt::Display for LayerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a context entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A regular file; its digest is of its content.
    File,
    /// A symbolic link; its digest is of its target's text.
    Link,
    /// A folder; its digest is of nothing.
    Folder,
}

/// One entry of a context: what BuildKit's own cache key looks at. No times, no owners.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileEntry {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits (`0o7777`); 0 for links.
    pub mode: u32,
    /// Of the content.
    pub digest: Digest,
}

/// A build context as the build sees it, by path relative to the context with `/` between the parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// Every entry that the ignore file lets through.
    pub files: BTreeMap<String, FileEntry>,
    /// Bytes of all regular files.
    pub bytes: u64,
    /// The Dockerfile's content, wherever it lies.
    pub dockerfile: Digest,
    /// The ignore file that held (`.dockerignore` or `<Dockerfile>.dockerignore`), by its content.
    pub ignore: Option<Digest>,
}

/// What a layer stands on or copies from, pinned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParentKey {
    /// Another layer, by its key.
    Layer(LayerKey),
    /// An image from outside, by its digest.
    External(Digest),
}

/// Everything that decides a layer's content. Kept beside each image, so that `plan` can say what changed.
/// The language, sizes and the sources of secrets are not in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyParts {
    /// The version of this structure; raised when the meaning of a part changes.
    pub schema: u32,
    /// The layer.
    pub layer: LayerName,
    /// The Dockerfile's content.
    pub dockerfile: Digest,
    /// The ignore file's content.
    pub ignore: Option<Digest>,
    /// The stage to build.
    pub target: Option<String>,
    /// The context's entries.
    pub files: BTreeMap<String, FileEntry>,
    /// Build arguments as handed over.
    pub build_args: BTreeMap<String, String>,
    /// What the image is built for.
    #[serde(rename = "platform")]
    pub platforms: Platforms,
    /// The frontend image, pinned; the built-in one where none.
    pub frontend: Option<Digest>,
    /// Ids of secrets, sorted.
    pub secret_ids: Vec<String>,
    /// Ids of ssh mounts, sorted.
    pub ssh_ids: Vec<String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// What the image must provide.
    pub tools: Vec<Tool>,
    /// What is promoted from it.
    pub artifact_paths: Vec<String>,
    /// Layers and external images that it builds on, by the name that the Dockerfile uses (familiar form).
    pub parents: BTreeMap<String, ParentKey>,
}

/// What is kept beside an image: the parts of its key, and what its parents were when it was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// What decided its content.
    pub parts: KeyParts,
    /// The images of its parents in the catalog. A parent that was forced has another image under the same key, and
    /// what stands on the old one is built again.
    pub built_on: BTreeMap<LayerName, Digest>,
}

impl KeyParts {
    /// The current version of the structure.
    pub const SCHEMA: u32 = 1;

    /// The key: the digest of the canonical JSON of all parts (fields in order, maps sorted).
    pub fn key(&self) -> LayerKey {
        let json = serde_json::to_vec(self).expect("invariant: key parts are plain data and serialise");
        LayerKey(Digest::of(json))
    }
}
