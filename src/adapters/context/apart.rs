//! Copies a context whose files' times do not tell when they were written. BuildKit keeps the last context that it was
//! sent, whosever it was, and takes a file of the same path, size and time for the same file. Archives, images and many
//! checkouts set one time for all files. Where a builder reads the folder itself, extended attributes stay behind, too:
//! BuildKit would show them to the steps, and neither keys nor git nor images hold them. Not responsible for: what is sent
//! to a runner by rsync, which empties its folder.

use std::fs::{self, Metadata};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, llistxattr, utimensat};
use rustix::io::Errno;
use tempfile::TempDir;

use super::names::raw_name;
use crate::domain::base::Digest;
use crate::domain::model::{FileEntry, FileKind, Listing};
use crate::domain::ports::{ContextError, Modes, StagingFolder};
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

/// An entry of a context.
struct Entry<'a> {
    name: PathBuf,
    listed: &'a FileEntry,
    metadata: Metadata,
    /// Whether it must not be sent as it is: it carries what is in no key.
    attributed: bool,
}

impl Entry<'_> {
    /// Whether its content must be copied, with a time that tells it.
    fn is_apart(&self) -> bool {
        self.listed.kind == FileKind::File && (self.attributed || is_set(&self.metadata))
    }

    fn copy(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        match self.listed.kind {
            FileKind::Folder => fs::create_dir(to),
            FileKind::Link => {
                fs::read_link(from).and_then(|target| symlink(target, to))?;
                set_time(to, &self.metadata, None)
            }
            // A copy has the bytes and the mode, and no attributes.
            FileKind::File if self.is_apart() => {
                fs::copy(from, to)?;
                set_time(to, &self.metadata, Some(&self.listed.digest))
            }
            FileKind::File => {
                fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop))?;
                set_time(to, &self.metadata, None)
            }
        }
    }
}

/// A copy of this context in which the fractions of seconds tell contents apart, and no entry has attributes where a
/// builder would send them on; `None` if the context is so itself.
pub fn told_apart(
    context: &Path,
    listing: &Listing,
    modes: Modes,
) -> Result<Option<Box<dyn StagingFolder>>, ContextError> {
    let mut entries = Vec::with_capacity(listing.files.len());
    for (name, listed) in &listing.files {
        let path = context.join(raw_name(name));
        let metadata = fs::symlink_metadata(&path).map_err(|source| unreadable(&path, source))?;
        let attributed = match modes {
            Modes::AsIs => is_attributed(&path).map_err(|source| unreadable(&path, source))?,
            // Neither rsync nor an archive carries them.
            Modes::Git => false,
        };
        entries.push(Entry { name: PathBuf::from(raw_name(name)), listed, metadata, attributed });
    }
    if !entries.iter().any(|entry| entry.attributed || entry.is_apart()) {
        return Ok(None);
    }
    let folder = scratch::folder_in(Path::new(LARGE)).or_else(|_| scratch::folder());
    let folder = folder.map_err(|source| unreadable(context, source))?;
    for entry in &entries {
        let (from, to) = (context.join(&entry.name), folder.path().join(&entry.name));
        entry.copy(&from, &to).map_err(|source| unreadable(&from, source))?;
    }
    // Folders last, the inner ones first: what is put into a folder changes its time, and its mode may forbid it.
    for Entry { name, metadata, .. } in entries.iter().rev().filter(|entry| entry.listed.kind == FileKind::Folder) {
        let to = folder.path().join(name);
        let done = fs::set_permissions(&to, metadata.permissions()).and_then(|()| set_time(&to, metadata, None));
        done.map_err(|source| unreadable(&context.join(name), source))?;
    }
    Ok(Some(Box::new(Copied(folder))))
}

/// Whether BuildKit would hand on extended attributes of this entry. Those of the system itself, as labels of SELinux and
/// access lists, are no part of what it builds from; capabilities are lost on the way.
fn is_attributed(path: &Path) -> std::io::Result<bool> {
    const SYSTEM: [&[u8]; 3] = [b"security.", b"system.", b"com.apple."];
    let mut names = [0_u8; 4096];
    match llistxattr(path, &mut names) {
        Ok(length) => {
            let mut names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
            Ok(names.any(|name| !SYSTEM.iter().any(|system| name.starts_with(system))))
        }
        Err(Errno::RANGE) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NODATA) => Ok(false),
        Err(error) => Err(error.into()),
    }
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
