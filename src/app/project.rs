//! Finds a project's root and defines the paths of lian-build's files in it; only this module knows them. Not
//! responsible for: the files' content.
//!
//! The rule: a project's root is the nearest folder upwards, itself included, with a `.git`. Without one it depends
//! on the path given: a catalog belongs to its parent; a build context to the working directory if that contains it,
//! else to itself; a folder given to `runs`, `logs`, `gc`, … to the nearest folder upwards with a history, else to
//! itself.

use std::path::{Path, PathBuf};

use crate::adapters::store::{Store, StoreError};
use crate::system::{catalog_root, git_root, resolved};

/// The location of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    root: PathBuf,
}

impl Project {
    /// The project of a catalog.
    pub fn of_catalog(catalog: &Path) -> Self {
        Self { root: catalog_root(catalog) }
    }

    /// The project of a build context without a catalog. The working directory counts if it contains the context,
    /// because `runs`, `logs` and `leases` are typed there.
    pub fn of_context(context: &Path) -> Self {
        let context = resolved(context);
        let here = || std::env::current_dir().map(|here| resolved(&here)).ok().filter(|here| context.starts_with(here));
        Self { root: git_root(&context).or_else(here).unwrap_or(context) }
    }

    /// The project of one of its folders.
    pub fn of_folder(folder: &Path) -> Self {
        let folder = resolved(folder);
        let with_history = || {
            folder.ancestors().find(|folder| Store::is_there(&state_of(folder)).unwrap_or(false)).map(Path::to_owned)
        };
        Self { root: git_root(&folder).or_else(with_history).unwrap_or(folder) }
    }

    /// Absolute, links resolved. Contexts, Dockerfiles and imports must be inside it.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder for all of lian-build's files in the project.
    pub fn state(&self) -> PathBuf {
        state_of(&self.root)
    }

    /// The private keys of leased runners.
    pub fn keys(&self) -> PathBuf {
        self.state().join("keys")
    }

    /// The default OCI layout.
    pub fn layout(&self) -> PathBuf {
        self.state().join("images")
    }

    /// The pins of images that `dispatch` builds on. A catalog has its own lock beside its layers.
    pub fn dispatch_lock(&self) -> PathBuf {
        self.state().join("dispatch.lock")
    }

    /// Opens the history; creates it if missing.
    pub fn open_store(&self) -> Result<Store, StoreError> {
        Store::open(&self.state())
    }

    /// Opens the history read-only.
    pub fn read_store(&self) -> Result<Option<Store>, StoreError> {
        Store::open_existing(&self.state())
    }

    /// Whether a history exists.
    pub fn has_history(&self) -> Result<bool, StoreError> {
        Store::is_there(&self.state())
    }
}

fn state_of(root: &Path) -> PathBuf {
    root.join(".lian")
}

/// The lock file with a catalog's pins.
pub fn catalog_lock(catalog: &Path) -> PathBuf {
    catalog.join("lian.lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(names: &[&str]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a folder");
        for name in names {
            std::fs::create_dir_all(dir.path().join(name)).expect("writable");
        }
        let root = resolved(dir.path());
        (dir, root)
    }

    #[test]
    fn every_way_to_a_project_ends_at_its_git() {
        let (_dir, root) = folders(&[".git", "images/catalog/app"]);
        let (catalog, app) = (root.join("images/catalog"), root.join("images/catalog/app"));
        // A history further down is older than the `.git` and no longer used.
        drop(Store::open(&state_of(&catalog)).expect("a history"));
        let found = [Project::of_catalog(&catalog), Project::of_context(&app), Project::of_folder(&app)];
        assert!(found.iter().all(|project| project.root() == root), "{found:?}");
    }

    #[test]
    fn without_git_a_project_is_found_by_what_was_named() {
        let (_dir, root) = folders(&["catalog/app"]);
        let app = root.join("catalog/app");
        assert_eq!(Project::of_catalog(&root.join("catalog")).root(), root);
        assert_eq!(Project::of_context(&app).root(), app);
        assert_eq!(Project::of_folder(&app).root(), app);
        drop(Project::of_catalog(&root.join("catalog")).open_store().expect("a history"));
        assert_eq!(Project::of_folder(&app).root(), root, "whoever looks back finds the history");
        assert_eq!(Project::of_folder(&app).read_store().expect("readable").map(|_| ()), Some(()));
    }
}
