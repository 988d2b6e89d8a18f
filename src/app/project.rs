//! Finds a project's root, and defines the paths of lian-build's files: those in its state folder, and the lock file of a
//! catalog. Only this module knows them. Not responsible for: the files' content, where the state folder lies (see
//! `state`).
//!
//! The rule: a project's root is the nearest folder upwards, itself included, with a `.git`. Without one it depends
//! on the path given: a catalog belongs to its parent; a build context to the working directory if that contains it,
//! else to itself; a folder given to `runs`, `logs`, `gc`, … to the nearest folder upwards that has a state, else to
//! itself.

use std::path::{Path, PathBuf};

use crate::adapters::store::{Store, StoreError};
use crate::app::Error;
use crate::app::state::{self, State, StateError};
use crate::system::{catalog_root, data_folder, git_root, resolved};

/// The location of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    state: State,
}

impl Project {
    /// The project of a catalog. `state` is the state folder that the user chose.
    pub fn of_catalog(catalog: &Path, state: Option<&Path>) -> Result<Self, Error> {
        Self::at(&catalog_root(catalog), state)
    }

    /// The project of a build context without a catalog. The working directory counts if it contains the context,
    /// because `runs`, `logs` and `leases` are typed there.
    pub fn of_context(context: &Path, state: Option<&Path>) -> Result<Self, Error> {
        let context = resolved(context);
        let here = || std::env::current_dir().map(|here| resolved(&here)).ok().filter(|here| context.starts_with(here));
        Self::at(&git_root(&context).or_else(here).unwrap_or(context), state)
    }

    /// The project of one of its folders.
    pub fn of_folder(folder: &Path, state: Option<&Path>) -> Result<Self, Error> {
        let folder = resolved(folder);
        if let Some(root) = git_root(&folder) {
            return Self::at(&root, state);
        }
        let user = data_folder()?;
        let of = |root: &Path| State::of(root, &user, state);
        let with_state = match state {
            Some(_) => of(&folder).recorded_root().filter(|root| folder.starts_with(root)),
            None => folder
                .ancestors()
                .find(|root| of(root).exists() || root.join(".lian/lian.db").is_file())
                .map(Path::to_owned),
        };
        Ok(Self { state: of(&with_state.unwrap_or(folder)) })
    }

    fn at(root: &Path, state: Option<&Path>) -> Result<Self, Error> {
        Ok(Self { state: State::of(root, &data_folder()?, state) })
    }

    /// Absolute, links resolved. Contexts, Dockerfiles and imports must be inside it.
    pub fn root(&self) -> &Path {
        self.state.root()
    }

    /// The folder for all of lian-build's files of the project.
    pub fn state(&self) -> &Path {
        self.state.path()
    }

    /// The folder for everything that lian-build keeps for this user.
    pub fn user(&self) -> &Path {
        self.state.user()
    }

    /// What every command does that uses the state, before it does: see [`state::settle`].
    pub fn settle(&self) -> Result<(), StateError> {
        state::settle(&self.state)
    }

    /// As [`settle`](Self::settle), for a command that uses no state: only says what is ignored.
    pub fn tell_ignored(&self) {
        state::tell_ignored(&self.state);
    }

    /// Makes the state folder, for this user only.
    pub fn make_state(&self) -> Result<(), StateError> {
        self.state.make().map(drop)
    }

    /// Whether there is a state folder, and it may be used.
    pub fn has_state(&self) -> Result<bool, StateError> {
        self.state.look().map(|found| found.is_some())
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
    pub fn open_store(&self) -> Result<Store, Error> {
        self.make_state()?;
        Ok(Store::open(self.state())?)
    }

    /// Opens the history read-only.
    pub fn read_store(&self) -> Result<Option<Store>, StoreError> {
        Store::open_existing(self.state())
    }

    /// Whether a history exists.
    pub fn has_history(&self) -> Result<bool, StoreError> {
        Store::is_there(self.state())
    }
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
        let found = [
            Project::of_catalog(&catalog, None),
            Project::of_context(&app, None),
            Project::of_folder(&app, None),
            Project::of_folder(&app, Some(&root.join("state"))),
        ];
        for project in found {
            assert_eq!(project.expect("a project").root(), root);
        }
    }

    #[test]
    fn without_git_a_project_is_found_by_what_was_named() {
        let (_dir, root) = folders(&["catalog/app"]);
        let (app, state) = (root.join("catalog/app"), root.join("state"));
        let of_folder = |folder: &Path| Project::of_folder(folder, Some(&state)).expect("a project");
        assert_eq!(Project::of_context(&app, Some(&state)).expect("a project").root(), app);
        assert_eq!(of_folder(&app).root(), app);
        let project = Project::of_catalog(&root.join("catalog"), Some(&state)).expect("a project");
        assert_eq!(project.root(), root);
        drop(project.open_store().expect("a history"));
        assert_eq!(of_folder(&app).root(), root, "whoever looks back finds the history");
        assert_eq!(of_folder(&app).read_store().expect("readable").map(|_| ()), Some(()));
        assert_eq!(of_folder(root.parent().expect("a parent")).root(), root.parent().expect("a parent"));
    }
}
