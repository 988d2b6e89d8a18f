//! File operations of a layout: errors with paths, locks, atomic writes. Not responsible for: file contents.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::Path;

use crate::domain::ports::ImageStoreError;
use crate::system::confined::{self, Folder};
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

/// Opens a lock file; creates it if missing. A link in its place is refused.
pub(super) fn open_lock(path: &Path) -> Result<File, ImageStoreError> {
    let opened = || {
        let (folder, name) = parts(path)?;
        confined::open(folder)?.lock_file(name)
    };
    opened().map_err(|error| failed("cannot open the lock", path, error))
}

/// Opens a folder of a layout or a state, and makes it if it is missing. A link in its place is refused.
pub(super) fn open_own(path: &Path) -> Result<Folder, ImageStoreError> {
    let opened = || {
        let (folder, name) = parts(path)?;
        std::fs::create_dir_all(folder)?;
        confined::open(folder)?.make_folder(name)
    };
    opened().map_err(|error| failed("cannot use the folder", path, error))
}

/// The same; `None` if it is not there.
pub(super) fn existing_own(path: &Path) -> Result<Option<Folder>, ImageStoreError> {
    let opened = || {
        let (folder, name) = parts(path)?;
        confined::open(folder)?.folder(name)
    };
    match opened() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some).map_err(|error| failed("cannot use the folder", path, error)),
    }
}

/// The folder that holds it, and its name.
fn parts(path: &Path) -> io::Result<(&Path, &OsStr)> {
    path.parent().zip(path.file_name()).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it has no name"))
}

/// Waits for the lock. It is released when the file is dropped, or by the kernel if the process dies.
pub(super) fn lock(path: &Path) -> Result<File, ImageStoreError> {
    let file = open_lock(path)?;
    lock::exclusive(&file).map_err(|error| failed("cannot lock", path, error))?;
    Ok(file)
}

/// The lock on a folder itself, which holds where somebody has removed a lock file in it; `None` where the file system
/// has no such locks (NFS). Waits for it.
pub(super) fn lock_folder(folder: &Folder) -> Option<File> {
    let handle = folder.handle().ok()?;
    lock::exclusive(&handle).is_ok().then_some(handle)
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
