//! Says whether git tracks a path, from its index alone: git itself would run what a repository's configuration names.
//! Not responsible for: what is committed and not in the index.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::confined;

/// Bytes of the largest index that is read. Half a million files take about this much.
const MOST: u64 = 64 << 20;
/// Bytes of the largest `.git` file of a worktree.
const MOST_POINTER: u64 = 4096;

/// Whether a repository around this absolute path tracks it, something in it, or a link on the way to it.
///
/// # Errors
/// `InvalidData` or `Unsupported` if an index cannot be understood: then nobody can tell.
pub fn tracks(path: &Path) -> io::Result<bool> {
    for root in path.ancestors().skip(1).filter(|folder| folder.join(".git").symlink_metadata().is_ok()) {
        let below = path.strip_prefix(root).unwrap_or(path);
        if let Some(index) = index_of(root)?
            && names_it(&index, below.as_os_str().as_bytes())?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The bytes of a work tree's index; `None` if there is none yet.
fn index_of(root: &Path) -> io::Result<Option<Vec<u8>>> {
    let entry = root.join(".git");
    let folder = if entry.is_dir() { entry } else { pointed_at(root)? };
    let read = confined::open(&folder).and_then(|folder| folder.read("index", MOST));
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The folder that the `.git` file of a worktree or submodule names.
fn pointed_at(root: &Path) -> io::Result<PathBuf> {
    let text = confined::open(root)?.read(".git", MOST_POINTER)?;
    let named = text.strip_prefix(b"gitdir: ").ok_or_else(|| unclear("`.git` names no folder"))?;
    Ok(root.join(std::ffi::OsStr::from_bytes(named.trim_ascii_end())))
}

fn names_it(index: &[u8], wanted: &[u8]) -> io::Result<bool> {
    // A hash has 20 bytes, or 32 in a repository of the newer format; the index does not say which.
    [20, 32].into_iter().find_map(|hash| scan(index, hash, wanted)).unwrap_or_else(|| Err(unclear("not an index")))
}

/// Looks for the path, or for something on the way to it or below it. `None` if this is no index with such hashes.
fn scan(index: &[u8], hash: usize, wanted: &[u8]) -> Option<io::Result<bool>> {
    let mut rest = Bytes(index);
    if rest.take(4)? != b"DIRC" {
        return None;
    }
    let (version, count) = (rest.number()?, rest.number()?);
    if !(2..=4).contains(&version) {
        return None;
    }
    let (mut name, mut found) = (Vec::new(), false);
    for _ in 0..count {
        entry(&mut rest, hash, version, &mut name)?;
        found |= touches(&name, wanted);
    }
    // What follows must end exactly at the checksum: else the hashes have another size.
    while rest.0.len() > hash {
        let kind = rest.take(4)?;
        let size = usize::try_from(rest.number()?).ok()?;
        rest.take(size)?;
        if kind == b"link" {
            return Some(Err(io::Error::new(io::ErrorKind::Unsupported, "git's index is split over two files")));
        }
    }
    (rest.0.len() == hash).then_some(Ok(found))
}

/// Reads one entry; `name` holds the entry before it, and this one's afterwards.
fn entry(rest: &mut Bytes<'_>, hash: usize, version: u32, name: &mut Vec<u8>) -> Option<()> {
    let before = rest.0.len();
    rest.take(40 + hash)?;
    let flags = u16::from_be_bytes(rest.take(2)?.try_into().ok()?);
    if version >= 3 && flags & 0x4000 != 0 {
        rest.take(2)?;
    }
    if version == 4 {
        name.truncate(name.len().checked_sub(rest.varint()?)?);
    } else {
        name.clear();
    }
    let length = rest.0.iter().position(|byte| *byte == 0)?;
    name.extend_from_slice(rest.take(length)?);
    let padding = if version == 4 { 1 } else { 8 - (before - rest.0.len()) % 8 };
    rest.take(padding)?.iter().all(|byte| *byte == 0).then_some(())
}

/// Whether one of the paths is the other, or leads to it. A folder's entry in a sparse index ends in `/`.
fn touches(name: &[u8], wanted: &[u8]) -> bool {
    let name = name.strip_suffix(b"/").unwrap_or(name);
    let leads =
        |short: &[u8], long: &[u8]| long.strip_prefix(short).is_some_and(|more| matches!(more, [] | [b'/', ..]));
    leads(name, wanted) || leads(wanted, name)
}

fn unclear(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("git's index cannot be read: {what}"))
}

/// What is still to be read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    /// Git's variable-length number.
    fn varint(&mut self) -> Option<usize> {
        let mut value = 0_usize;
        loop {
            let byte = *self.take(1)?.first()?;
            value = value.checked_mul(128)?.checked_add(usize::from(byte & 0x7f))?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
            value = value.checked_add(1)?;
        }
    }
}

#[cfg(test)]
#[path = "git_index_tests.rs"]
mod tests;
