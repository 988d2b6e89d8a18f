//! Finds a project's root by its `.git`. Not responsible for: the project's content.

use std::path::{Path, PathBuf};

/// The nearest ancestor of a path, including itself, with a `.git` (a folder, or a worktree's file). Absolute, with
/// links resolved.
pub fn git_root(path: &Path) -> Option<PathBuf> {
    resolved(path).ancestors().find(|folder| folder.join(".git").exists()).map(Path::to_owned)
}

/// The project root of a catalog, or of a workflow file's folder: its [`git_root`], else its parent. Absolute, with
/// links resolved.
pub fn catalog_root(catalog: &Path) -> PathBuf {
    git_root(catalog).unwrap_or_else(|| {
        let actual = resolved(catalog);
        actual.parent().unwrap_or(&actual).to_owned()
    })
}

/// A path with links resolved; unchanged if it does not exist.
pub fn resolved(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}
