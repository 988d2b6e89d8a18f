//! The mark that a project's root is known by. Not responsible for: what lies in a project.

use std::path::{Path, PathBuf};

/// The nearest ancestor of a path, itself included, that holds a `.git` (a folder, or the file of a worktree). Absolute,
/// without links.
pub fn git_root(path: &Path) -> Option<PathBuf> {
    resolved(path).ancestors().find(|folder| folder.join(".git").exists()).map(Path::to_owned)
}

/// The root of the project that a catalog, or the folder of a workflow's file, belongs to: its [`git_root`], else its
/// parent. Absolute, without links.
pub fn catalog_root(catalog: &Path) -> PathBuf {
    git_root(catalog).unwrap_or_else(|| {
        let actual = resolved(catalog);
        actual.parent().unwrap_or(&actual).to_owned()
    })
}

/// A path without links; as it is named where it does not exist.
pub fn resolved(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}
