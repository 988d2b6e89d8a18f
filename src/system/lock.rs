//! Advisory locks on whole files, compatible with the shell's `flock`. The kernel releases them when the holder ends.
//! Not responsible for: pid files.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Opens a lock file; creates it if missing. Its content stays.
pub fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)
}

/// Takes the exclusive lock; waits for other holders. It is released when the file is dropped.
pub fn exclusive(file: &File) -> io::Result<()> {
    loop {
        match file.lock() {
            // Retry after a signal.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Takes the exclusive lock if it is free. Returns whether it did.
pub fn try_exclusive(file: &File) -> io::Result<bool> {
    granted(file.try_lock())
}

/// Takes a shared lock if there is no exclusive holder. Returns whether it did.
pub fn try_shared(file: &File) -> io::Result<bool> {
    granted(file.try_lock_shared())
}

/// Releases the lock before the file is closed.
pub fn unlock(file: &File) -> io::Result<()> {
    file.unlock()
}

/// Whether a path still leads to this open file. Whoever removes or replaces a lock file makes room for a second holder:
/// a lock on what is nowhere any more holds nobody off.
pub fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let there = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        found => found?,
    };
    let own = file.metadata()?;
    Ok((own.dev(), own.ino()) == (there.dev(), there.ino()))
}

fn granted(answer: Result<(), TryLockError>) -> io::Result<bool> {
    match answer {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_go_together_and_the_whole_lock_goes_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        std::fs::write(&path, "content").expect("writable");
        let files = [(); 3].map(|()| open(&path).expect("a file"));
        assert!(try_shared(&files[0]).expect("lockable") && try_shared(&files[1]).expect("lockable"));
        assert!(!try_exclusive(&files[2]).expect("lockable"));
        unlock(&files[0]).expect("lockable");
        let [_, second, third] = files;
        drop(second);
        exclusive(&third).expect("lockable");
        assert!(!try_shared(&open(&path).expect("a file")).expect("lockable"));
        assert_eq!(std::fs::read_to_string(&path).expect("readable"), "content");
    }

    #[test]
    fn a_lock_file_that_was_removed_or_replaced_is_not_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let held = open(&path).expect("a file");
        assert!(is_at(&held, &path).expect("known"));
        std::fs::remove_file(&path).expect("removed");
        assert!(!is_at(&held, &path).expect("known"));
        let another = open(&path).expect("a file");
        assert!(!is_at(&held, &path).expect("known") && is_at(&another, &path).expect("known"));
    }

    #[test]
    fn the_shells_flock_is_the_same_lock() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let held = open(&path).expect("a file");
        let shell = |options: &[&str]| {
            let mut command = std::process::Command::new("flock");
            command.args(options).arg(&path).arg("true").status().expect("flock runs").success()
        };
        assert!(try_shared(&held).expect("lockable"));
        assert!(!shell(&["-n"]) && shell(&["-n", "-s"]));
        unlock(&held).expect("lockable");
        assert!(try_exclusive(&held).expect("lockable"));
        assert!(!shell(&["-n", "-s"]));
    }
}
