//! File operations of a layout: errors with paths, locks, atomic writes. Not responsible for: file contents.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::domain::ports::ImageStoreError;
use crate::system::{files, lock};

/// An I/O error with the operation and path that failed.
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

/// Opens a lock file; creates it if missing.
pub(super) fn open_lock(path: &Path) -> Result<File, ImageStoreError> {
    lock::open(path).map_err(|error| failed("cannot open the lock", path, error))
}

/// Waits for the lock. It is released when the file is dropped, or by the kernel if the process dies.
pub(super) fn lock(path: &Path) -> Result<File, ImageStoreError> {
    let file = open_lock(path)?;
    lock::exclusive(&file).map_err(|error| failed("cannot lock", path, error))?;
    Ok(file)
}

/// Takes the lock, shared or exclusive, if it is free.
pub(super) fn try_lock(file: &File, path: &Path, shared: bool) -> Result<bool, ImageStoreError> {
    let tried = if shared { lock::try_shared(file) } else { lock::try_exclusive(file) };
    tried.map_err(|error| failed("cannot lock", path, error))
}

/// Writes a file atomically: temporary file, fsync, rename.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), ImageStoreError> {
    // Files of a layout are readable by everyone who can enter its folder.
    files::write_whole(path, bytes, 0o644).map_err(|error| failed("cannot write", path, error))
}

/// Creates a folder and its parents.
pub(super) fn make_folder(path: &Path) -> Result<(), ImageStoreError> {
    std::fs::create_dir_all(path).map_err(|error| failed("cannot make the folder", path, error))
}
