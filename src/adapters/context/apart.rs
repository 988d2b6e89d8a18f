//! Copies a context whose files' times do not tell when they were written. BuildKit keeps the last context that it was
//! sent, whosever it was, and takes a file of the same path, size and time for the same file. Archives, images and many
//! checkouts set one time for all files. Not responsible for: what is sent to a runner by rsync, which empties its folder.

use std::fs::{self, Metadata};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use tempfile::TempDir;

use super::names::raw_name;
use crate::domain::base::Digest;
use crate::domain::model::{FileKind, Listing};
use crate::domain::ports::{ContextError, StagingFolder};
use crate::system::scratch;

/// Where large temporary files belong: on a disk, mostly the one of the project, so that files can be linked.
const LARGE: &str = "/var/tmp";
const NANOSECONDS_A_SECOND: u32 = 1_000_000_000;
const NANOSECONDS_A_MILLISECOND: i64 = 1_000_000;

/// A copy of a context, removed on drop.
struct Copied(TempDir);

impl StagingFolder for Copied {
    fn path(&self) -> &Path {
        self.0.path()
    }
}

/// A copy of this context in which the fractions of seconds tell contents apart; `None` if its own times do.
pub fn told_apart(context: &Path, listing: &Listing) -> Result<Option<Box<dyn StagingFolder>>, ContextError> {
    let mut entries = Vec::with_capacity(listing.files.len());
    for (name, entry) in &listing.files {
        let path = context.join(raw_name(name));
        let metadata = fs::symlink_metadata(&path).map_err(|source| unreadable(&path, source))?;
        entries.push((PathBuf::from(raw_name(name)), entry, metadata));
    }
    if !entries.iter().any(|(_, entry, metadata)| entry.kind == FileKind::File && is_set(metadata)) {
        return Ok(None);
    }
    let folder = scratch::folder_in(Path::new(LARGE)).or_else(|_| scratch::folder());
    let folder = folder.map_err(|source| unreadable(context, source))?;
    for (name, entry, metadata) in &entries {
        let (from, to) = (context.join(name), folder.path().join(name));
        let made = match entry.kind {
            FileKind::Folder => fs::create_dir(&to),
            FileKind::Link => fs::read_link(&from).and_then(|target| symlink(target, &to)),
            FileKind::File if is_set(metadata) => fs::copy(&from, &to).map(|_| ()),
            FileKind::File => fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(|_| ())),
        };
        let timed = made.and_then(|()| match entry.kind {
            FileKind::Folder => Ok(()),
            FileKind::Link => set_time(&to, metadata, None),
            FileKind::File if is_set(metadata) => set_time(&to, metadata, Some(&entry.digest)),
            FileKind::File => set_time(&to, metadata, None),
        });
        timed.map_err(|source| unreadable(&from, source))?;
    }
    // Folders last, the inner ones first: what is put into a folder changes its time, and its mode may forbid it.
    for (name, _, metadata) in entries.iter().rev().filter(|(_, entry, _)| entry.kind == FileKind::Folder) {
        let to = folder.path().join(name);
        let done = fs::set_permissions(&to, metadata.permissions()).and_then(|()| set_time(&to, metadata, None));
        done.map_err(|source| unreadable(&context.join(name), source))?;
    }
    Ok(Some(Box::new(Copied(folder))))
}

/// Whether somebody set the time: whoever writes a file leaves a time of nanoseconds, whoever sets it whole seconds or
/// milliseconds.
fn is_set(metadata: &Metadata) -> bool {
    metadata.mtime_nsec() % NANOSECONDS_A_MILLISECOND == 0
}

/// Sets the time of an entry, whose fraction of a second tells its content. The second stays: it is in the image.
fn set_time(path: &Path, metadata: &Metadata, content: Option<&Digest>) -> std::io::Result<()> {
    let fraction = content.and_then(|digest| u32::from_str_radix(digest.hex().get(..8)?, 16).ok());
    let nanoseconds = fraction.map_or(metadata.mtime_nsec(), |fraction| i64::from(fraction % NANOSECONDS_A_SECOND));
    let time = Timespec { tv_sec: metadata.mtime(), tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(Error::from)
}

fn unreadable(path: &Path, source: Error) -> ContextError {
    match source.kind() {
        ErrorKind::NotFound => ContextError::Missing { path: path.to_owned() },
        _ => ContextError::Unreadable { path: path.to_owned(), source },
    }
}
