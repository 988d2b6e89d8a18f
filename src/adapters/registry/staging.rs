//! Private folders in a layout, one per build. A lock that ends with its process guards each, so that cleanup removes
//! only folders of dead processes. Not responsible for: their contents.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FileType;

use super::files::{existing_own, failed, lock, lock_folder, open_own, try_lock};
use crate::domain::ports::{ImageStoreError, StagingFolder};
use crate::system::confined::Folder;
use crate::system::lock::try_exclusive;

/// A staging folder of this process.
#[derive(Debug)]
pub(super) struct Staging {
    root: Folder,
    name: String,
    path: PathBuf,
    _lock: File,
    /// A second lock, on the folder itself, in case that somebody removes the file of the first.
    _witness: Option<File>,
}

impl StagingFolder for Staging {
    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // If this fails, the next cleanup removes it.
        let _ = self.root.remove_tree(&self.name);
        let _ = self.root.remove_file(lock_of(&self.name));
    }
}

/// Creates a folder below `root`, after a cleanup.
pub(super) fn create(root: &Path) -> Result<Staging, ImageStoreError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let folder = open_own(root)?;
    loop {
        // One process at a time: between creation and locking of a lock file, a cleanup would remove it.
        let _guard = lock(&root.join(".guard"))?;
        remove_leftovers(&folder)?;
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let lock_path = root.join(lock_of(&name));
        let file =
            folder.lock_file(lock_of(&name)).map_err(|error| failed("cannot open the lock", &lock_path, error))?;
        // Where it is taken, another process has this pid in another pid namespace: the next number, then.
        if try_lock(&file, &lock_path, false)? {
            let made = folder.make_folder(&name);
            let made = made.map_err(|error| failed("cannot make the folder", &root.join(&name), error))?;
            let witness = lock_folder(&made);
            return Ok(Staging { path: root.join(&name), root: folder, name, _lock: file, _witness: witness });
        }
    }
}

/// Removes folders of dead processes. Returns how many.
pub(super) fn sweep(root: &Path) -> Result<usize, ImageStoreError> {
    let Some(folder) = existing_own(root)? else { return Ok(0) };
    let _guard = lock(&root.join(".guard"))?;
    remove_leftovers(&folder)
}

fn remove_leftovers(root: &Folder) -> Result<usize, ImageStoreError> {
    let shown = |name: &str| root.path().join(name);
    let list = root.names().map_err(|error| failed("cannot read the folder", root.path(), error))?;
    let mut removed = 0;
    for name in list.iter().filter_map(|name| name.to_str()) {
        let folder = name.strip_suffix(".lock").unwrap_or(name);
        if !is_own_name(folder) || !is_free(root, folder)? {
            continue;
        }
        let kind = |name: &str| root.stat(name).ok().flatten().map(|found| FileType::from_raw_mode(found.st_mode));
        if kind(name) == Some(FileType::Directory) {
            root.remove_tree(name).map_err(|error| failed("cannot remove the leftover", &shown(name), error))?;
            removed += 1;
        } else if kind(folder) != Some(FileType::Directory) {
            let _ = root.remove_file(name);
        }
    }
    Ok(removed)
}

fn lock_of(name: &str) -> String {
    format!("{name}.lock")
}

/// Whether a staging folder is named so: by a process and a number. Nothing else is removed.
fn is_own_name(name: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name.split_once('-').is_some_and(|(process, count)| number(process) && number(count))
}

/// Whether no live process holds this folder: neither its lock file, which may be missing, nor the folder itself.
fn is_free(root: &Folder, folder: &str) -> Result<bool, ImageStoreError> {
    let (name, path) = (lock_of(folder), root.path().join(lock_of(folder)));
    let unusable = |error| failed("cannot open the lock", &path, error);
    let free = match root.stat(&name).map_err(unusable)? {
        None => true,
        Some(_) => try_lock(&root.lock_file(&name).map_err(unusable)?, &path, false)?,
    };
    let witness = || root.folder(folder).and_then(|folder| folder.handle()).and_then(|handle| try_exclusive(&handle));
    // What is no folder, or on a file system without such locks, has no witness.
    Ok(free && witness().unwrap_or(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_private_and_goes_when_dropped() {
        let root = tempfile::tempdir().expect("a folder");
        let (one, two) = (create(root.path()).expect("staging"), create(root.path()).expect("staging"));
        assert_ne!(one.path(), two.path());
        let path = one.path().to_owned();
        std::fs::write(path.join("blob"), "x").expect("a file");
        drop(one);
        assert!(!path.exists() && two.path().is_dir());
    }

    #[test]
    fn sweeps_the_dead_and_spares_the_living() {
        let root = tempfile::tempdir().expect("a folder");
        let living = create(root.path()).expect("staging");
        for name in ["999-0", "998-7"] {
            std::fs::create_dir(root.path().join(name)).expect("a folder");
            std::fs::write(root.path().join(name).join("half"), "x").expect("a file");
        }
        std::fs::write(root.path().join("999-0.lock"), "").expect("a file");
        assert_eq!(sweep(root.path()).expect("a sweep"), 2);
        assert!(living.path().is_dir());
        assert!(!root.path().join("999-0").exists());
        sweep(root.path()).expect("a sweep");
        assert!(!root.path().join("999-0.lock").exists());
        // Nor does it help to remove the lock of a living one.
        std::fs::remove_file(living.path().with_extension("lock")).expect("removed");
        assert_eq!(sweep(root.path()).expect("a sweep"), 0);
        assert!(living.path().is_dir(), "swept from under a build");
    }

    #[test]
    fn nothing_is_removed_but_what_is_named_as_a_staging_folder_and_nothing_through_a_link() {
        let above = tempfile::tempdir().expect("a folder");
        let (root, elsewhere) = (above.path().join("staging"), above.path().join("elsewhere"));
        for kept in ["photos", "1-", "-1", "a-1", "1-2-3"] {
            std::fs::create_dir_all(root.join(kept)).expect("a folder");
        }
        std::fs::create_dir_all(elsewhere.join("42-0/inside")).expect("a folder");
        std::os::unix::fs::symlink(&elsewhere, root.join("7-7")).expect("a link");
        assert_eq!(sweep(&root).expect("a sweep"), 0);
        assert!(elsewhere.join("42-0/inside").is_dir() && std::fs::symlink_metadata(root.join("7-7")).is_err());
        let names = ["-1", ".guard", "1-", "1-2-3", "a-1", "photos"];
        let mut left: Vec<_> =
            std::fs::read_dir(&root).expect("a folder").flatten().map(|one| one.file_name()).collect();
        left.sort();
        assert_eq!(left, names);
        // The folder itself, its guard and a lock as links.
        std::os::unix::fs::symlink(&elsewhere, above.path().join("link")).expect("a link");
        for refused in [sweep(&above.path().join("link")).map(drop), create(&above.path().join("link")).map(drop)] {
            let error = refused.expect_err("a link is followed");
            assert!(std::error::Error::source(&error).expect("a cause").to_string().contains("link"), "{error:?}");
        }
        std::os::unix::fs::symlink(elsewhere.join("made"), root.join("9-9.lock")).expect("a link");
        sweep(&root).expect_err("a lock that is a link is followed");
        std::fs::remove_file(root.join(".guard")).expect("removable");
        std::os::unix::fs::symlink(elsewhere.join("made"), root.join(".guard")).expect("a link");
        create(&root).expect_err("a guard that is a link is followed");
        assert_eq!(std::fs::read_dir(&elsewhere).expect("a folder").count(), 1, "something was made there");
        assert!(elsewhere.join("42-0/inside").is_dir());
    }
}
