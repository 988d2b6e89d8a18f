//! The state folders of the user's other projects: those whose project is gone can be removed. Not responsible for: the
//! state of the project at hand.

use std::path::{Path, PathBuf};

use super::error::StateError;
use super::place::{PROJECTS, folder_name};
use super::record::Record;
use crate::adapters::store::Store;
use crate::system::confined;

/// The state of a project that is not where it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// The state folder.
    pub path: PathBuf,
    /// Where the project was.
    pub root: PathBuf,
    /// How many of its runners are still to be given back; `None` if its history cannot be read.
    pub waiting: Option<usize>,
}

/// The state folders in the user's folder whose projects are gone, sorted. What has no record of ours is left out.
pub fn others(user: &Path) -> Result<Vec<Other>, StateError> {
    let projects = user.join(PROJECTS);
    if !projects.is_dir() {
        return Ok(Vec::new());
    }
    let folder = confined::open(&projects).map_err(StateError::unusable(&projects))?;
    let mut gone = Vec::new();
    for name in folder.names().map_err(StateError::unusable(&projects))? {
        let Ok(state) = folder.folder(&name) else { continue };
        let Ok(Some(record)) = Record::read(&state) else { continue };
        let root = record.root();
        if record.is_gone() && folder_name(&root).as_str() == name {
            gone.push(Other { waiting: waiting(state.path()), path: state.path().to_owned(), root });
        }
    }
    Ok(gone)
}

fn waiting(path: &Path) -> Option<usize> {
    let Some(store) = Store::open_existing(path).ok()? else { return Some(0) };
    Some(store.open_leases().ok()?.len())
}

impl Other {
    /// Whether nothing is lost with it.
    pub fn may_go(&self) -> bool {
        self.waiting == Some(0)
    }
}

/// Removes the state of the projects that are gone, except where runners are still to be given back. Returns all of
/// them.
pub fn remove_gone(user: &Path) -> Result<Vec<Other>, StateError> {
    let gone = others(user)?;
    for other in gone.iter().filter(|other| other.may_go()) {
        let name = other.path.file_name().unwrap_or_default();
        let removed = confined::open(&user.join(PROJECTS)).and_then(|projects| projects.remove_tree(name));
        removed.map_err(StateError::unusable(&other.path))?;
    }
    Ok(gone)
}
