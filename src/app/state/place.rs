//! Where a project's state folder is, and whether it may be used. Not responsible for: state of earlier versions.

use std::io;
use std::path::{Component, Path, PathBuf};

use super::error::StateError;
use super::record::Record;
use crate::domain::base::Digest;
use crate::system::confined::{self, Folder};
use crate::system::git_index;

/// The folder of all projects' state in the user's folder.
pub(super) const PROJECTS: &str = "projects";
/// The longest part of a state folder's name that comes from the project's.
const NAME_CHARS: usize = 40;

/// Where a project's state is. Nothing is made before it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    root: PathBuf,
    user: PathBuf,
    path: PathBuf,
    is_chosen: bool,
}

impl State {
    /// The state of the project with this root: in this folder of the user, or where the user says.
    pub fn of(root: &Path, user: &Path, chosen: Option<&Path>) -> Self {
        let path = match chosen {
            Some(folder) => without_turns(&std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned())),
            None => user.join(PROJECTS).join(folder_name(root)),
        };
        Self { root: root.to_owned(), user: user.to_owned(), path, is_chosen: chosen.is_some() }
    }

    /// The root of its project.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the user chose the folder.
    pub(super) fn is_chosen(&self) -> bool {
        self.is_chosen
    }

    /// The folder for everything that lian-build keeps for this user.
    pub fn user(&self) -> &Path {
        &self.user
    }

    /// Whether there is a state yet.
    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// The root that the folder's record names, if there is one.
    pub fn recorded_root(&self) -> Option<PathBuf> {
        let folder = self.open().ok()??;
        Record::read(&folder).ok().flatten().map(|record| record.root())
    }

    /// Looks whether the folder may be used, and opens it; `None` if it is not there. Changes nothing.
    pub fn look(&self) -> Result<Option<Folder>, StateError> {
        self.is_no_clones()?;
        let Some(folder) = self.open().map_err(StateError::unusable(&self.path))? else { return Ok(None) };
        folder.is_own().map_err(StateError::unusable(&self.path))?;
        let record = Record::read(&folder).map_err(StateError::unusable(&self.path))?;
        match record {
            Some(record) if record.is_of(&self.root) || record.is_gone() => Ok(Some(folder)),
            Some(record) => {
                let (path, root, recorded) = (self.path.clone(), self.root.clone(), record.root());
                Err(StateError::OtherProject { path, root, recorded })
            }
            None if !self.is_chosen || looks_like_state(&folder) => Ok(Some(folder)),
            None => Err(StateError::NotState { path: self.path.clone() }),
        }
    }

    /// Opens the folder; makes it, and its record, if they are missing.
    pub fn make(&self) -> Result<Folder, StateError> {
        self.look()?;
        let folder = if self.is_chosen {
            confined::make_private(&self.path)
        } else {
            projects_of(&self.user)?.make_folder(folder_name(&self.root))
        };
        let folder = folder.map_err(StateError::unusable(&self.path))?;
        Record::of(&self.root).keep(&folder).map_err(StateError::unusable(&self.path))?;
        Ok(folder)
    }

    /// Opens the folder. In the user's folder no link stands for it.
    fn open(&self) -> io::Result<Option<Folder>> {
        let opened = if self.is_chosen {
            confined::open(&self.path)
        } else {
            confined::open(&self.user.join(PROJECTS)).and_then(|projects| projects.folder(folder_name(&self.root)))
        };
        match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// A folder that git tracks is whoever's wrote the repository.
    fn is_no_clones(&self) -> Result<(), StateError> {
        let actual = std::fs::canonicalize(&self.path).ok().filter(|actual| *actual != self.path);
        for path in [Some(self.path.clone()), actual].into_iter().flatten() {
            if git_index::tracks(&path).map_err(StateError::untold(&path))? {
                return Err(StateError::Tracked { path });
            }
        }
        Ok(())
    }
}

/// The path without `..`: what it means must not change by what is made on the way.
fn without_turns(path: &Path) -> PathBuf {
    let turns = |path: &Path| path.components().any(|part| part == Component::ParentDir);
    if !turns(path) {
        return path.to_owned();
    }
    let there = path.ancestors().find_map(|above| Some((above, std::fs::canonicalize(above).ok()?)));
    let (above, mut actual) = there.unwrap_or((Path::new("/"), PathBuf::from("/")));
    for part in path.strip_prefix(above).unwrap_or(path).components() {
        match part {
            Component::ParentDir => drop(actual.pop()),
            part => actual.push(part),
        }
    }
    actual
}

/// The folder of all projects' state, made for this user only.
pub(super) fn projects_of(user: &Path) -> Result<Folder, StateError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let unusable = StateError::unusable(user);
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(user);
    made.and_then(|()| confined::open(user)?.make_folder(PROJECTS)).map_err(unusable)
}

/// The name of a root's state folder: the root's own, for people, and a part of its path's digest.
pub(super) fn folder_name(root: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let sound = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name = root.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let name: String = name.chars().map(sound).take(NAME_CHARS).collect();
    let name = name.trim_start_matches('.');
    let name = if name.is_empty() { "root" } else { name };
    format!("{name}-{}", &Digest::of(root.as_os_str().as_bytes()).hex()[..12])
}

/// Whether a folder without a record may be state: it is empty, or the folder of an earlier version.
fn looks_like_state(folder: &Folder) -> bool {
    folder.names().is_ok_and(|names| names.is_empty()) || folder.is_file("lian.db")
}
