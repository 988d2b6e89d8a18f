//! Folders that nothing leads out of: every path below one is opened component by component, without following links,
//! and only regular files are read, up to a bound. Not responsible for: what the files mean, and who may be trusted.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::domain::base::human_bytes;

/// Mode of folders that are made here: for this user only, whatever the umask.
const FOLDER_MODE: u32 = 0o700;
/// Mode of files that are made here.
const FILE_MODE: u32 = 0o600;

/// A folder, held open. Whatever is put in the place of its path later, this stays the same folder.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

/// Opens a folder by a path that the user named: links on the way to it are followed. Nothing below it is.
pub fn open(path: &Path) -> io::Result<Folder> {
    let path = std::fs::canonicalize(path)?;
    let fd = rustix::fs::open(&path, folder_flags(), Mode::empty()).map_err(told)?;
    Ok(Folder { fd, path })
}

/// The same; the folder and its parents are made if they are missing. It is for this user only afterwards: a folder of
/// somebody else is refused, and a wider mode is narrowed.
pub fn make_private(path: &Path) -> io::Result<Folder> {
    make_parents(path)?;
    let folder = open(path)?;
    folder.narrow()?;
    Ok(folder)
}

/// As [`make_private`], if the folder itself is no link: those on the way to it are followed.
pub fn make_private_no_link(path: &Path) -> io::Result<Folder> {
    let (parent, name) = parent_and_name(path)?;
    make_parents(parent)?;
    open(parent)?.make_folder(name)
}

/// Opens a folder that is no link itself: those on the way to it are followed.
pub fn open_no_link(path: &Path) -> io::Result<Folder> {
    let (parent, name) = parent_and_name(path)?;
    open(parent)?.folder(name)
}

fn parent_and_name(path: &Path) -> io::Result<(&Path, &OsStr)> {
    let name = path.file_name().ok_or_else(|| leads_elsewhere(path))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    Ok((parent.unwrap_or(Path::new(".")), name))
}

fn make_parents(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)
}

/// The bytes of a regular file below `root`, at most `most` of them. Links that stay below the root are followed; the
/// file that was looked at is the one that is read.
///
/// # Errors
/// `NotFound`; `PermissionDenied` with a text if it lies outside the root; `InvalidInput` if it is not a regular file;
/// `FileTooLarge`.
pub fn read_below(root: &Path, path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let root = open(root)?;
    let actual = std::fs::canonicalize(path)?;
    let below = actual.strip_prefix(&root.path).map_err(|_| outside(&actual))?;
    root.read(below, most)
}

/// Whether a text may be a part of a path: it leads nowhere else, and hides nothing.
pub fn is_name(text: &str) -> bool {
    let sound = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=200).contains(&text.len()) && !text.starts_with(['.', '-']) && text.chars().all(sound)
}

fn outside(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, format!("it lies outside the project, at {}", path.display()))
}

impl Folder {
    /// Its path, with all links resolved, as it was when the folder was opened: for messages and for other programs.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder below this one.
    pub fn folder(&self, below: impl AsRef<Path>) -> io::Result<Self> {
        let below = below.as_ref();
        Ok(Self { fd: self.open_at(below, folder_flags(), Mode::empty())?, path: self.path.join(below) })
    }

    /// A folder below this one; it and its parents are made if they are missing, for this user only.
    pub fn make_folder(&self, below: impl AsRef<Path>) -> io::Result<Self> {
        let below = below.as_ref();
        let mut fd = self.fd.try_clone()?;
        for name in names(below)? {
            match rustix::fs::mkdirat(&fd, name, Mode::from_raw_mode(FOLDER_MODE)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            fd = rustix::fs::openat(&fd, name, folder_flags(), Mode::empty()).map_err(told)?;
        }
        let folder = Self { fd, path: self.path.join(below) };
        folder.narrow()?;
        Ok(folder)
    }

    /// Opens a regular file to read it. A pipe or a device is refused, and not waited for.
    pub fn open_file(&self, below: impl AsRef<Path>) -> io::Result<File> {
        self.regular(below.as_ref(), OFlags::RDONLY)
    }

    /// The whole of a regular file, if it has at most `most` bytes.
    pub fn read(&self, below: impl AsRef<Path>, most: u64) -> io::Result<Vec<u8>> {
        read_all(&self.open_file(below)?, most)
    }

    /// Opens a file to append to it; it is made if it is missing.
    pub fn append(&self, below: impl AsRef<Path>) -> io::Result<File> {
        self.regular(below.as_ref(), OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE)
    }

    /// Opens a file to lock it; it is made if it is missing. Its content stays.
    pub fn lock_file(&self, below: impl AsRef<Path>) -> io::Result<File> {
        self.regular(below.as_ref(), OFlags::RDWR | OFlags::CREATE)
    }

    /// Makes a new file. What is there already is refused.
    pub fn create_new(&self, below: impl AsRef<Path>) -> io::Result<File> {
        self.regular(below.as_ref(), OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
    }

    /// Writes a file for this user only, atomically: temporary file, fsync, rename. On failure the old file stays. A
    /// link in its place is replaced, not followed.
    pub fn write_whole(&self, below: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        self.write(below.as_ref(), bytes, |fd, from, to| rustix::fs::renameat(fd, from, fd, to))
    }

    /// The same for a file that must be new: what is there already stays, and `AlreadyExists` is the answer.
    pub fn write_new(&self, below: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
        self.write(below.as_ref(), bytes, |fd, from, to| {
            rustix::fs::linkat(fd, from, fd, to, AtFlags::empty())?;
            rustix::fs::unlinkat(fd, from, AtFlags::empty())
        })
    }

    /// Writes a temporary file, which `place` puts in its place.
    fn write(
        &self,
        below: &Path,
        bytes: &[u8],
        place: impl FnOnce(&OwnedFd, &OsStr, &OsStr) -> rustix::io::Result<()>,
    ) -> io::Result<()> {
        let (folder, name) = self.parent_of(below)?;
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(format!("-{}-{:x}", std::process::id(), unique()));
        let written = folder.create_new(&temporary).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()?;
            place(&folder.fd, &temporary, name)?;
            rustix::fs::fsync(&folder.fd).map_err(io::Error::from)
        });
        if written.is_err() {
            let _ = rustix::fs::unlinkat(&folder.fd, &temporary, AtFlags::empty());
        }
        written
    }

    /// Renames a file or folder below this folder to another name below it.
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        self.rename_to(from, self, to)
    }

    /// Moves a file or folder below this folder to a name in another folder on the same disk.
    pub fn rename_to(&self, from: impl AsRef<Path>, other: &Self, to: impl AsRef<Path>) -> io::Result<()> {
        let ((from, old), (to, new)) = (self.parent_of(from.as_ref())?, other.parent_of(to.as_ref())?);
        Ok(rustix::fs::renameat(&from.fd, old, &to.fd, new)?)
    }

    /// Removes a file, or a link itself.
    pub fn remove_file(&self, below: impl AsRef<Path>) -> io::Result<()> {
        let (folder, name) = self.parent_of(below.as_ref())?;
        Ok(rustix::fs::unlinkat(&folder.fd, name, AtFlags::empty())?)
    }

    /// Removes a folder with everything in it. A link in its place, or in it, is removed itself and not followed.
    pub fn remove_tree(&self, below: impl AsRef<Path>) -> io::Result<()> {
        let (folder, name) = self.parent_of(below.as_ref())?;
        // The standard library follows no link below the folder that it is given; this names exactly that one.
        std::fs::remove_dir_all(Path::new("/proc/self/fd").join(folder.fd.as_raw_fd().to_string()).join(name))
    }

    /// The folder itself, opened once more: to lock it, for as long as the file is open.
    pub fn handle(&self) -> io::Result<File> {
        Ok(File::from(rustix::fs::openat(&self.fd, ".", folder_flags(), Mode::empty())?))
    }

    /// The names in this folder, sorted.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        use std::os::unix::ffi::OsStrExt as _;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// What is known of a file or folder; of a link, what is known of the link. `None` if nothing is there.
    pub fn stat(&self, below: impl AsRef<Path>) -> io::Result<Option<Stat>> {
        let (folder, name) = match self.parent_of(below.as_ref()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found?,
        };
        match rustix::fs::statat(&folder.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a regular file is there; a link to one is not.
    pub fn is_file(&self, below: impl AsRef<Path>) -> bool {
        let found = self.stat(below).ok().flatten();
        found.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
    }

    /// The folder in which a path's last name is, and that name.
    fn parent_of<'a>(&self, below: &'a Path) -> io::Result<(Self, &'a OsStr)> {
        let all = names(below)?;
        let Some((name, _)) = all.split_last() else { return Err(leads_elsewhere(below)) };
        let folder = below.parent().filter(|parent| !parent.as_os_str().is_empty());
        let folder = match folder {
            Some(folder) => self.folder(folder)?,
            None => Self { fd: self.fd.try_clone()?, path: self.path.clone() },
        };
        Ok((folder, name))
    }

    fn regular(&self, below: &Path, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(self.open_at(below, flags, Mode::from_raw_mode(FILE_MODE))?);
        is_regular(&file)?;
        Ok(file)
    }

    fn open_at(&self, below: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let mut fd = self.fd.try_clone()?;
        let names = names(below)?;
        let Some((last, folders)) = names.split_last() else { return Ok(fd) };
        for name in folders {
            fd = rustix::fs::openat(&fd, *name, folder_flags(), Mode::empty()).map_err(told)?;
        }
        rustix::fs::openat(&fd, *last, flags, mode).map_err(told)
    }

    /// Whether this user owns it: somebody else's folder is refused.
    pub fn is_own(&self) -> io::Result<()> {
        let owner = File::from(self.fd.try_clone()?).metadata()?.uid();
        if owner == rustix::process::geteuid().as_raw() {
            return Ok(());
        }
        let text = format!("{} belongs to user {owner}, not to you", self.path.display());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    }

    /// Makes the folder this user's alone.
    fn narrow(&self) -> io::Result<()> {
        self.is_own()?;
        let file = File::from(self.fd.try_clone()?);
        if file.metadata()?.mode() & 0o7777 != FOLDER_MODE {
            file.set_permissions(Permissions::from_mode(FOLDER_MODE))?;
        }
        Ok(())
    }
}

/// The whole of an open file, if it has at most `most` bytes. The size that it claims is looked at first.
pub(super) fn read_all(mut file: &File, most: u64) -> io::Result<Vec<u8>> {
    let too_long = || io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {}", human_bytes(most)));
    if file.metadata()?.len() > most {
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    (&mut file).take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(too_long()) } else { Ok(bytes) }
}

/// Refuses pipes, devices and folders.
pub(super) fn is_regular(file: &File) -> io::Result<()> {
    if file.metadata()?.is_file() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
}

fn folder_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// A path's names. One that could lead elsewhere (`..`, an absolute path) is refused.
fn names(below: &Path) -> io::Result<Vec<&OsStr>> {
    below
        .components()
        .map(|part| match part {
            Component::Normal(name) => Ok(name),
            _ => Err(leads_elsewhere(below)),
        })
        .collect()
}

fn leads_elsewhere(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("`{}` is not a path below the folder", path.display()))
}

/// The kernel says of a link that there are too many.
pub(super) fn told(error: Errno) -> io::Error {
    match error {
        Errno::LOOP => io::Error::new(io::ErrorKind::InvalidInput, "it is a symbolic link, and those are not followed"),
        // This is what it says of a link where a folder is asked for, too.
        Errno::NOTDIR => {
            let text = "it is not a folder, or it is a symbolic link, and those are not followed";
            io::Error::new(io::ErrorKind::NotADirectory, text)
        }
        Errno::NXIO => io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"),
        error => error.into(),
    }
}

/// A number that no other call in this process gets.
fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
#[path = "confined_tests.rs"]
mod tests;
