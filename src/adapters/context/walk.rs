//! Walks a context's folders. It never enters a folder whose content the ignore file leaves out completely.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::{Error, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::apart::told_apart;
use super::bounds::{Bounds, Counted};
use super::effort::Effort;
use super::files::{inside, resolve, whole};
use super::hash;
use super::ignore::{Ignore, Inherited};
use super::names::escaped;
use super::progress::Progress;
use crate::domain::base::Digest;
use crate::domain::model::{FileEntry, FileKind, Listing};
use crate::domain::ports::{ContextError, ContextReader, Definition, Modes, StagingFolder};

/// Reads contexts from disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reader {
    modes: Modes,
}

impl Reader {
    /// A reader that lists these modes.
    pub fn of(modes: Modes) -> Self {
        Self { modes }
    }

    /// As [`ContextReader::list`], and the texts that the listing has the digests of.
    pub fn read(
        &self,
        project_root: &Path,
        context: &Path,
        dockerfile: &Path,
    ) -> Result<(Listing, Definition), ContextError> {
        let root = resolve(project_root)?;
        let folder = inside(&root, context)?;
        inside(&root, dockerfile)?;
        let (ignore, ignored) = ignore_file(&root, &folder, dockerfile)?;
        let counted = Counted::new(Bounds::from_env());
        let (effort, progress) = (Effort::default(), Progress::new());
        let mut walk = Walk { ignore, effort, modes: self.modes, entries: Vec::new(), counted, progress };
        walk.run(folder)?;
        let missing = || unreadable(dockerfile, ErrorKind::NotFound.into());
        let text = whole(&root, dockerfile)?.ok_or_else(missing)?;
        // One without patterns changes nothing.
        let patterns = ignored.as_ref().filter(|bytes| !Ignore::parse(bytes).is_ok_and(|ignore| ignore.is_empty()));
        let listing = walk.listing(Digest::of(&text), patterns.map(Digest::of))?;
        Ok((listing, Definition { dockerfile: text, ignore: ignored }))
    }
}

impl ContextReader for Reader {
    fn list(&self, project_root: &Path, context: &Path, dockerfile: &Path) -> Result<Listing, ContextError> {
        self.read(project_root, context, dockerfile).map(|(listing, _)| listing)
    }

    fn told_apart(&self, context: &Path, listing: &Listing) -> Result<Option<Box<dyn StagingFolder>>, ContextError> {
        match self.modes {
            Modes::AsIs => told_apart(context, listing, self.modes),
            // The files are copied to where they are built.
            Modes::Git => Ok(None),
        }
    }
}

/// `<Dockerfile>.dockerignore` beside the Dockerfile, else `.dockerignore` in the context, with its bytes. A link is
/// followed inside the resolved root only.
pub(super) fn ignore_file(
    root: &Path,
    context: &Path,
    dockerfile: &Path,
) -> Result<(Ignore, Option<Vec<u8>>), ContextError> {
    let mut beside = dockerfile.as_os_str().to_owned();
    beside.push(".dockerignore");
    for path in [PathBuf::from(beside), context.join(".dockerignore")] {
        let Some(bytes) = whole(root, &path)? else { continue };
        let ignore = Ignore::parse(&bytes).map_err(|(line, what)| ContextError::Pattern { path, line, what })?;
        return Ok((ignore.without_own(), Some(bytes)));
    }
    Ok((Ignore::default().without_own(), None))
}

/// An entry that is included and not hashed yet.
struct Entry {
    /// Its path in the listing.
    name: String,
    path: PathBuf,
    kind: FileKind,
    mode: u32,
}

/// A folder to be read.
struct Folder {
    path: PathBuf,
    /// Its path for patterns; empty for the context itself.
    shown: Vec<u8>,
    /// Its path in the listing.
    name: String,
    inherited: Inherited,
    /// The modes of this folder and of those above it that are left out unless something in them is included, outermost
    /// first.
    pending: Vec<(String, u32)>,
}

struct Walk {
    ignore: Ignore,
    effort: Effort,
    modes: Modes,
    entries: Vec<Entry>,
    counted: Counted,
    progress: Progress,
}

impl Walk {
    fn run(&mut self, context: PathBuf) -> Result<(), ContextError> {
        let (shown, name) = (Vec::new(), String::new());
        let mut folders = vec![Folder { path: context, shown, name, inherited: Inherited::default(), pending: vec![] }];
        while let Some(folder) = folders.pop() {
            self.effort.let_go(folder.inherited.count());
            self.progress.read(&folder.path, 0);
            let read = match fs::read_dir(&folder.path) {
                // Like BuildKit: an unreadable file does no harm if it is left out.
                Err(error) if error.kind() == ErrorKind::PermissionDenied && !folder.pending.is_empty() => continue,
                read => read,
            };
            for entry in read.map_err(|source| unreadable(&folder.path, source))? {
                let entry = entry.map_err(|source| unreadable(&folder.path, source))?;
                folders.extend(self.entry(&folder, &entry.file_name())?);
            }
        }
        Ok(())
    }

    /// Includes one entry or leaves it out. Returns a folder that must be read.
    fn entry(&mut self, folder: &Folder, file_name: &OsStr) -> Result<Option<Folder>, ContextError> {
        let path = folder.path.join(file_name);
        let shown = below(&folder.shown, file_name);
        let name = joined(&folder.name, &escaped(file_name));
        let too_much = |_| ContextError::Patterns { path: path.clone() };
        let (excluded, inherited) =
            self.ignore.excludes(&shown, &folder.inherited, &mut self.effort).map_err(too_much)?;
        let metadata = match fs::symlink_metadata(&path) {
            Err(error) if excluded && error.kind() == ErrorKind::NotFound => return Ok(None),
            found => found.map_err(|source| unreadable(&path, source))?,
        };
        let mode = metadata.permissions().mode() & 0o7777;
        if metadata.is_dir() {
            if excluded && !self.ignore.may_except_below(&shown, &mut self.effort).map_err(too_much)? {
                return Ok(None);
            }
            self.effort.keep(inherited.count()).map_err(too_much)?;
            let mut pending = folder.pending.clone();
            if excluded {
                pending.push((name.clone(), mode));
            } else {
                self.settle(&pending);
                pending.clear();
                self.counted.add(&path, 0)?;
                self.push(name.clone(), path.clone(), FileKind::Folder, mode);
            }
            return Ok(Some(Folder { path, shown, name, inherited, pending }));
        }
        if !excluded && let Some(kind) = kind(&path, &metadata)? {
            self.counted.add(&path, if kind == FileKind::File { metadata.len() } else { 0 })?;
            self.settle(&folder.pending);
            self.push(name, path, kind, if kind == FileKind::Link { 0 } else { mode });
        }
        Ok(None)
    }

    fn push(&mut self, name: String, path: PathBuf, kind: FileKind, mode: u32) {
        self.entries.push(Entry { name, path, kind, mode: self.modes.of(kind, mode) });
    }

    /// Includes the excluded folders above something that is included.
    fn settle(&mut self, pending: &[(String, u32)]) {
        for (name, mode) in pending {
            self.push(name.clone(), PathBuf::new(), FileKind::Folder, *mode);
        }
    }

    fn listing(self, dockerfile: Digest, ignore: Option<Digest>) -> Result<Listing, ContextError> {
        let mut entries = self.entries;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries.dedup_by(|a, b| a.name == b.name);
        let paths: Vec<&Path> =
            entries.iter().filter(|entry| entry.kind == FileKind::File).map(|entry| entry.path.as_path()).collect();
        let hashed = hash::files(&paths, &self.progress)?;
        let bytes = hashed.iter().map(|(_, length)| length).sum();
        let mut hashed = hashed.into_iter().map(|(digest, _)| digest);
        let nothing = Digest::of("");
        let mut listing = Listing { files: BTreeMap::new(), bytes, dockerfile, ignore };
        for Entry { name, path, kind, mode } in entries {
            let digest = match kind {
                FileKind::File => hashed.next().expect("invariant: each file was hashed"),
                FileKind::Folder => nothing.clone(),
                FileKind::Link => {
                    let target = fs::read_link(&path).map_err(|source| unreadable(&path, source))?;
                    Digest::of(target.as_os_str().as_bytes())
                }
            };
            listing.files.insert(name, FileEntry { kind, mode, digest });
        }
        Ok(listing)
    }
}

/// Sockets are skipped. Pipes and devices are refused: they have no content to hash, and BuildKit would send them.
fn kind(path: &Path, metadata: &Metadata) -> Result<Option<FileKind>, ContextError> {
    let file_type = metadata.file_type();
    if file_type.is_file() {
        Ok(Some(FileKind::File))
    } else if file_type.is_symlink() {
        Ok(Some(FileKind::Link))
    } else if file_type.is_socket() {
        Ok(None)
    } else {
        Err(unreadable(path, Error::new(ErrorKind::InvalidInput, "it is a pipe or a device")))
    }
}

fn unreadable(path: &Path, source: Error) -> ContextError {
    ContextError::Unreadable { path: path.to_owned(), source }
}

/// The path of an entry for patterns.
pub(super) fn below(folder: &[u8], name: &OsStr) -> Vec<u8> {
    let joint: &[u8] = if folder.is_empty() { b"" } else { b"/" };
    [folder, joint, name.as_bytes()].concat()
}

fn joined(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}
