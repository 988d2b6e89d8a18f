//! The parts of a layer key: everything that affects a layer's content, in a form in which two versions can be
//! compared. Not responsible for: gathering the parts.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::layer::Tool;
use crate::domain::base::{Digest, LayerName, Platforms};

/// The label of an image that holds its full layer key.
pub const KEY_LABEL: &str = "dev.lian-build.layer-key";

/// The digest of everything that affects a layer's content.
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

/// The kind of a context entry.
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

impl FileKind {
    /// The mode that git has for such an entry: 755 for folders and for what somebody may execute, else 644.
    pub fn git_mode(self, mode: u32) -> u32 {
        match self {
            Self::Folder => 0o755,
            Self::File if mode & 0o111 != 0 => 0o755,
            Self::File => 0o644,
            Self::Link => 0,
        }
    }
}

/// One entry of a context: what BuildKit's cache key also covers. Times and owners are not part of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileEntry {
    /// The kind of entry.
    pub kind: FileKind,
    /// Permission bits (`0o7777`); 0 for links.
    pub mode: u32,
    /// The digest, as [`FileKind`] describes it.
    pub digest: Digest,
}

/// A build context as the build sees it. Paths are relative to the context, with `/` between their parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// Every entry that the ignore file does not exclude.
    pub files: BTreeMap<String, FileEntry>,
    /// The size of all regular files together, in bytes.
    pub bytes: u64,
    /// The digest of the Dockerfile, wherever it is.
    pub dockerfile: Digest,
    /// The digest of the ignore file that was used (`.dockerignore` or `<Dockerfile>.dockerignore`).
    pub ignore: Option<Digest>,
}

/// A pinned parent of a layer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParentKey {
    /// Another layer of the catalog, by its key.
    Layer(LayerKey),
    /// An external image, by its digest.
    External(Digest),
}

/// Everything that affects a layer's content. It is kept beside each image, so that `plan` can say what changed. The
/// language, sizes and the sources of secrets are not part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyParts {
    /// The version of this structure. It is raised when the meaning of a part changes.
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
    /// The build arguments that are passed to the build.
    pub build_args: BTreeMap<String, String>,
    /// What the image is built for.
    #[serde(rename = "platform")]
    pub platforms: Platforms,
    /// The pinned frontend image; `None` for BuildKit's built-in one.
    pub frontend: Option<Digest>,
    /// Ids of secrets, sorted.
    pub secret_ids: Vec<String>,
    /// Ids of ssh mounts, sorted.
    pub ssh_ids: Vec<String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// The tools that the image must provide.
    pub tools: Vec<Tool>,
    /// The paths that are promoted as the artifacts image.
    pub artifact_paths: Vec<String>,
    /// The layers and external images that it uses, by the name in the Dockerfile (familiar form).
    pub parents: BTreeMap<String, ParentKey>,
}

/// What is kept beside an image: the parts of its key, and the images that it was built on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// What determined its content.
    pub parts: KeyParts,
    /// The images of its parents in the catalog. A parent that was forced gets a new image under the same key; the
    /// children of the old image are then built again.
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
