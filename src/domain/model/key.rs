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

impl Listing {
    /// A name for the modes of its folders. Of two contexts with the same name, each folder that both hold has the same
    /// mode: it names the commonest mode, and by a digest the folders with any other one. So it stays the same where
    /// folders with that mode come and go.
    pub fn folder_modes(&self) -> String {
        let folders = || self.files.iter().filter(|(_, entry)| entry.kind == FileKind::Folder);
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        folders().for_each(|(_, entry)| *counts.entry(entry.mode).or_default() += 1);
        let commonest = counts.into_iter().rev().max_by_key(|(_, count)| *count).map_or(0o755, |(mode, _)| mode);
        let others = folders().filter(|(_, entry)| entry.mode != commonest);
        let others: String = others.map(|(path, entry)| format!("{:o} {path}\0", entry.mode)).collect();
        match others.as_str() {
            "" => format!("{commonest:o}"),
            others => format!("{commonest:o}-{}", Digest::of(others).short()),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_share_a_name_only_if_the_folders_that_both_hold_have_one_mode() {
        let name = |folders: &[(&str, u32)]| {
            let digest = Digest::of("");
            let entry = |mode| FileEntry { kind: FileKind::Folder, mode, digest: digest.clone() };
            let files = folders.iter().map(|(path, mode)| ((*path).to_owned(), entry(*mode))).collect();
            Listing { files, bytes: 0, dockerfile: digest.clone(), ignore: None }.folder_modes()
        };
        assert_eq!(name(&[]), "755");
        assert_eq!(name(&[("a", 0o755), ("b", 0o755)]), "755");
        assert_eq!(name(&[("a", 0o775)]), name(&[("b", 0o775), ("c", 0o775)]));
        // One folder of each of two modes: the smaller mode is taken for the commonest.
        let mixed = name(&[("a", 0o700), ("b", 0o755)]);
        assert!(mixed.starts_with("700-"), "{mixed}");
        let names = [
            name(&[("a", 0o755)]),
            name(&[("a", 0o700)]),
            name(&[("a", 0o2755)]),
            name(&[("a", 0o700), ("b", 0o755), ("c", 0o755)]),
            name(&[("a", 0o755), ("b", 0o700), ("c", 0o755)]),
            name(&[("a", 0o711), ("b", 0o755), ("c", 0o755)]),
            mixed,
        ];
        let different: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len(), "{names:?}");
        // Others of the commonest mode make no difference.
        assert_eq!(
            name(&[("a", 0o700), ("b", 0o755), ("c", 0o755)]),
            name(&[("a", 0o700), ("b", 0o755), ("c", 0o755), ("d", 0o755)])
        );
    }
}
