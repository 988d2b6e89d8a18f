//! Files of a layout: errors with their paths, locks, and writing by rename. Not responsible for: knowing what is in them.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::domain::ports::ImageStoreError;
use crate::system::{files, lock};

/// An error of the file system, with what was tried.
pub(super) fn failed(what: &str, path: &Path, source: io::Error) -> ImageStoreError {
    let help = match source.kind() {
        io::ErrorKind::StorageFull => "free disk space with `lian-build gc`, then try again",
        io::ErrorKind::PermissionDenied => {
            "the layout belongs to another user: change its owner, or use another folder"
        }
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only: put the layout on another one",
        _ => "check the layout's folder and the disk under it",
    };
    ImageStoreError::Io { what: what.to_owned(), path: path.to_owned(), help: help.to_owned(), source }
}

/// Opens (and makes) a lock file.
pub(super) fn open_lock(path: &Path) -> Result<File, ImageStoreError> {
    lock::open(path).map_err(|error| failed("cannot open the lock", path, error))
}

/// Waits for the lock. It is given back when the file is dropped, and by the kernel if the process dies.
pub(super) fn lock(path: &Path) -> Result<File, ImageStoreError> {
    let file = open_lock(path)?;
    lock::exclusive(&file).map_err(|error| failed("cannot lock", path, error))?;
    Ok(file)
}

/// Takes the lock, shared or for itself, if nobody is in the way.
pub(super) fn try_lock(file: &File, path: &Path, shared: bool) -> Result<bool, ImageStoreError> {
    let tried = if shared { lock::try_shared(file) } else { lock::try_exclusive(file) };
    tried.map_err(|error| failed("cannot lock", path, error))
}

/// Writes a whole file or nothing: a temporary one beside it, made durable, then renamed.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), ImageStoreError> {
    // What a layout holds may be read by whoever may enter its folder.
    files::write_whole(path, bytes, 0o644).map_err(|error| failed("cannot write", path, error))
}

/// Makes a folder and its parents.
pub(super) fn make_folder(path: &Path) -> Result<(), ImageStoreError> {
    std::fs::create_dir_all(path).map_err(|error| failed("cannot make the folder", path, error))
}
