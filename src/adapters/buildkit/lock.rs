//! Advisory locks on files of ours: they end with the process that holds them, however it ends. Not responsible for: pid files as
//! proof of life.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// Opens (and makes) a lock file.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)
}

/// Takes the lock if nobody is in the way.
pub(super) fn try_exclusive(file: &File) -> io::Result<bool> {
    granted(flock(file, FlockOperation::NonBlockingLockExclusive))
}

/// Takes a share of the lock if nobody has it for himself.
pub(super) fn try_shared(file: &File) -> io::Result<bool> {
    granted(flock(file, FlockOperation::NonBlockingLockShared))
}

/// Gives the lock back.
pub(super) fn unlock(file: &File) -> io::Result<()> {
    Ok(flock(file, FlockOperation::Unlock)?)
}

fn granted(answer: rustix::io::Result<()>) -> io::Result<bool> {
    match answer {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
