//! Takes over the `.lian` folder that earlier versions kept in the project. Only what the user's own runs left there
//! counts: not what git tracks, and nothing with a link or of another user. Not responsible for: the state afterwards.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::error::StateError;
use super::place::{State, projects_of};
use super::record::Record;
use crate::system::confined::{self, Folder};
use crate::system::{git_index, lock};

/// The folder in the project.
const LEGACY: &str = ".lian";
/// What earlier versions kept in it. Nothing else is taken over.
const KNOWN: [&str; 9] =
    ["lian.db", "lian.db-wal", "lian.db-shm", "images", "logs", "runs", "keys", "claims", "dispatch.lock"];
/// No folder of lian-build is deeper.
const DEPTH: u32 = 16;

/// Takes the project's `.lian` over, unless the project has a state already. One that is not taken over is said.
pub(super) fn settle(state: &State, there: bool) -> Result<(), StateError> {
    let from = state.root().join(LEGACY);
    // Whoever names the folder uses it as it is.
    if std::fs::canonicalize(&from).is_ok_and(|from| std::fs::canonicalize(state.path()).is_ok_and(|to| to == from)) {
        return Ok(());
    }
    match ours_of(state.root()) {
        Ok(names) if names.is_empty() => Ok(()),
        Ok(_) if there => {
            let state = state.path().display();
            tracing::warn!(
                "{} is ignored: the project's state is in {state}. If an older lian-build rented runners since, \
                 `lian-build leases gc --state {LEGACY}` gives them back; then delete the folder",
                from.display()
            );
            Ok(())
        }
        Ok(names) => take_over(state, &names),
        Err(why) => {
            ignored(state, &why);
            Ok(())
        }
    }
}

/// Says so if the project's `.lian` is ignored; takes nothing over.
pub fn tell_ignored(state: &State) {
    if let Err(why) = ours_of(state.root()) {
        ignored(state, &why);
    }
}

fn ignored(state: &State, why: &str) {
    let (from, to) = (state.root().join(LEGACY), state.path().display());
    tracing::warn!("{} is ignored: {why}. The project's state is in {to}; delete that folder", from.display());
}

/// The known names in the project's `.lian`; a text if they are not this user's own.
fn ours_of(root: &Path) -> Result<Vec<&'static str>, String> {
    let told = |error: io::Error| error.to_string();
    let root = confined::open(root).map_err(told)?;
    let Some(found) = root.stat(LEGACY).map_err(told)? else { return Ok(Vec::new()) };
    if git_index::tracks(&root.path().join(LEGACY)).map_err(told)? {
        return Err("git tracks it, so a clone brings it".to_owned());
    }
    sound(&found, LEGACY)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
        return Ok(Vec::new());
    }
    let folder = root.folder(LEGACY).map_err(told)?;
    let mut names = Vec::new();
    for name in KNOWN {
        if let Some(found) = folder.stat(name).map_err(told)? {
            all_sound(&folder, OsStr::new(name), &found, DEPTH)?;
            names.push(name);
        }
    }
    Ok(names)
}

/// A text if this, or anything in it, is a link, or is not the user's.
fn all_sound(folder: &Folder, name: &OsStr, found: &Stat, depth: u32) -> Result<(), String> {
    let shown = folder.path().join(name);
    sound(found, &shown.display().to_string())?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
        return Ok(());
    }
    let told = |error: io::Error| format!("{}: {error}", shown.display());
    let depth = depth.checked_sub(1).ok_or_else(|| format!("{} lies too deep", shown.display()))?;
    let inner = folder.folder(name).map_err(told)?;
    for name in inner.names().map_err(told)? {
        if let Some(found) = inner.stat(&name).map_err(told)? {
            all_sound(&inner, &name, &found, depth)?;
        }
    }
    Ok(())
}

fn sound(found: &Stat, shown: &str) -> Result<(), String> {
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile | FileType::Directory if found.st_uid == rustix::process::geteuid().as_raw() => Ok(()),
        FileType::RegularFile | FileType::Directory => Err(format!("{shown} is another user's")),
        FileType::Symlink => Err(format!("{shown} is a symbolic link")),
        _ => Err(format!("{shown} is neither a file nor a folder")),
    }
}

/// Moves everything known into a folder beside the state, then that to the state's place. Whoever is interrupted goes on
/// the next time: only the last step makes it the project's state.
fn take_over(state: &State, names: &[&str]) -> Result<(), StateError> {
    let from = state.root().join(LEGACY);
    let failed = |source| StateError::TakeOver { from: from.clone(), to: state.path().to_owned(), source };
    let (parent, name) = parent_of(state)?;
    // One process at a time; the second one finds it done.
    let guard = parent.lock_file(".guard").map_err(failed)?;
    lock::exclusive(&guard).map_err(failed)?;
    if parent.stat(&name).map_err(failed)?.is_some() {
        return Ok(());
    }
    let old = confined::open(state.root()).and_then(|root| root.folder(LEGACY)).map_err(failed)?;
    if in_use(&old).map_err(failed)? {
        return Err(StateError::InUse { path: from });
    }
    let half = format!(".{name}.taken");
    let new = parent.make_folder(&half).map_err(failed)?;
    for name in names {
        moved(&old, &new, name).map_err(failed)?;
    }
    Record::of(state.root()).keep(&new).map_err(failed)?;
    parent.rename(&half, &name).map_err(failed)?;
    if old.read(".gitignore", 2).is_ok_and(|text| text == b"*\n") {
        let _ = old.remove_file(".gitignore");
    }
    // It stays if anything else is in it.
    let _ = std::fs::remove_dir(&from);
    tracing::warn!("the project's state was moved from {} to {}", from.display(), state.path().display());
    Ok(())
}

/// The folder that will hold the state, and the state's name in it.
fn parent_of(state: &State) -> Result<(Folder, String), StateError> {
    let name = state.path().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if !state.is_chosen() {
        return Ok((projects_of(state.user())?, name));
    }
    let parent = state.path().parent().unwrap_or(Path::new("/"));
    let opened = std::fs::create_dir_all(parent).and_then(|()| confined::open(parent));
    Ok((opened.map_err(StateError::unusable(state.path()))?, name))
}

/// Whether a run goes on in the folder: each holds a lock as long as it lives.
fn in_use(old: &Folder) -> io::Result<bool> {
    let Ok(runs) = old.folder("runs") else { return Ok(false) };
    for name in runs.names()? {
        if !lock::try_shared(&runs.open_file(&name)?)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Moves a file or folder, to another disk, too; what arrives is for this user only.
fn moved(old: &Folder, new: &Folder, name: &str) -> io::Result<()> {
    match old.rename_to(name, new, name) {
        Err(error) if error.raw_os_error() == Some(Errno::XDEV.raw_os_error()) => {
            let part = format!("{name}.part");
            if new.stat(&part)?.is_some() {
                new.remove_tree(&part).or_else(|_| new.remove_file(&part))?;
            }
            copied(old, OsStr::new(name), new, OsStr::new(&part))?;
            new.rename(&part, name)?;
            old.remove_tree(name).or_else(|_| old.remove_file(name))
        }
        renamed => renamed.and_then(|()| narrowed(new, OsStr::new(name))),
    }
}

/// Takes everybody else's rights away.
fn narrowed(folder: &Folder, name: &OsStr) -> io::Result<()> {
    if folder.is_file(name) {
        return folder.open_file(name)?.set_permissions(std::fs::Permissions::from_mode(0o600));
    }
    let inner = folder.make_folder(name)?;
    inner.names()?.iter().try_for_each(|name| narrowed(&inner, name))
}

fn copied(old: &Folder, name: &OsStr, new: &Folder, to: &OsStr) -> io::Result<()> {
    if old.is_file(name) {
        let mut written = new.create_new(to)?;
        io::copy(&mut old.open_file(name)?, &mut written)?;
        return written.sync_all();
    }
    let (from, into) = (old.folder(name)?, new.make_folder(to)?);
    from.names()?.iter().try_for_each(|name| copied(&from, name, &into, name))
}
