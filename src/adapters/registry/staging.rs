//! Private folders in a layout, one per build. A lock that ends with its process guards each, so that cleanup removes
//! only folders of dead processes. Not responsible for: their contents.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::files::{failed, lock, make_folder, open_lock, try_lock};
use crate::domain::ports::{ImageStoreError, StagingFolder};

/// A staging folder of this process.
#[derive(Debug)]
pub(super) struct Staging {
    folder: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

impl StagingFolder for Staging {
    fn path(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // If this fails, the next cleanup removes it.
        let _ = std::fs::remove_dir_all(&self.folder);
        let _ = std::fs::remove_file(&self.lock_path);
    }
}

/// Creates a folder below `root`, after a cleanup.
pub(super) fn create(root: &Path) -> Result<Staging, ImageStoreError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    make_folder(root)?;
    // One process at a time: between creation and locking of a lock file, a cleanup would remove it.
    let _guard = lock(&root.join(".guard"))?;
    remove_leftovers(root)?;
    let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let (folder, lock_path) = (root.join(&name), root.join(format!("{name}.lock")));
    let file = open_lock(&lock_path)?;
    if !try_lock(&file, &lock_path, false)? {
        // Another process has this pid in another pid namespace; try the next number.
        drop(_guard);
        return create(root);
    }
    std::fs::create_dir(&folder).map_err(|error| failed("cannot make the folder", &folder, error))?;
    Ok(Staging { folder, lock_path, _lock: file })
}

/// Removes folders of dead processes. Returns how many.
pub(super) fn sweep(root: &Path) -> Result<usize, ImageStoreError> {
    if !root.is_dir() {
        return Ok(0);
    }
    let _guard = lock(&root.join(".guard"))?;
    remove_leftovers(root)
}

fn remove_leftovers(root: &Path) -> Result<usize, ImageStoreError> {
    let list = std::fs::read_dir(root).map_err(|error| failed("cannot read the folder", root, error))?;
    let mut removed = 0;
    for path in list.flatten().map(|entry| entry.path()) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let dead = match name.strip_suffix(".lock") {
            _ if name == ".guard" => false,
            Some(_) => is_free(&path)?,
            None => is_free(&root.join(format!("{name}.lock")))?,
        };
        if !dead {
            continue;
        }
        if path.is_dir() {
            std::fs::remove_dir_all(&path).map_err(|error| failed("cannot remove the leftover", &path, error))?;
            removed += 1;
        } else if !root.join(name.trim_end_matches(".lock")).is_dir() {
            let _ = std::fs::remove_file(&path);
        }
    }
    Ok(removed)
}

/// Whether the lock file is missing or no live process holds it.
fn is_free(lock_path: &Path) -> Result<bool, ImageStoreError> {
    match File::options().read(true).write(true).open(lock_path) {
        Ok(file) => try_lock(&file, lock_path, false),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(failed("cannot open the lock", lock_path, error)),
    }
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
    }
}
