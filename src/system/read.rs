//! Reads whole files that are small by nature: regular ones only, without waiting, and at most so many bytes by kind. Not
//! responsible for: files of our own state (see `confined`), contexts and blobs, which are read piece by piece.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::confined;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// How many bytes are too many, by what a file is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cap {
    /// A Dockerfile or an ignore file. BuildKit refuses longer Dockerfiles.
    Dockerfile,
    /// A declaration in Nickel.
    Declaration,
    /// What a declaration imports, in any format.
    Import,
    /// Pins of images.
    Lock,
    /// A manifest or a lock file of Cargo, or a recipe with all of them.
    Cargo,
    /// A Makefile.
    Makefile,
    /// A token, or a key.
    Credential,
    /// Many tokens, or Docker's logins.
    Credentials,
    /// Certificates in PEM.
    Certificates,
    /// A secret that a build is given. BuildKit refuses more than 500 KB.
    Secret,
    /// The index, a manifest or the configuration of an image.
    Manifest,
    /// What a tool wrote for us.
    Answer,
}

impl Cap {
    /// The most bytes.
    pub const fn most(self) -> u64 {
        match self {
            Self::Credential => 64 * KIB,
            Self::Declaration | Self::Makefile | Self::Secret | Self::Answer => MIB,
            Self::Dockerfile | Self::Import | Self::Lock | Self::Credentials => 4 * MIB,
            Self::Certificates | Self::Manifest => 16 * MIB,
            Self::Cargo => 32 * MIB,
        }
    }
}

/// A file of a project: below its root, through links only if they stay below it.
///
/// # Errors
/// `NotFound`; `PermissionDenied` if it lies outside; `InvalidInput` if it is not a regular file; `FileTooLarge`.
pub fn of_project(root: &Path, path: &Path, cap: Cap) -> io::Result<Vec<u8>> {
    confined::read_below(root, path, cap.most())
}

/// A file that the user named, or that lies where the user's own files do: links are followed, wherever they lead.
///
/// # Errors
/// As [`of_project`], but it lies nowhere outside.
pub fn of_user(path: &Path, cap: Cap) -> io::Result<Vec<u8>> {
    confined::read_all(&open(path)?, cap.most())
}

/// The same as text.
///
/// # Errors
/// Also `InvalidData` if it is not UTF-8.
pub fn text_of_user(path: &Path, cap: Cap) -> io::Result<String> {
    text(of_user(path, cap)?)
}

/// Bytes as text.
///
/// # Errors
/// `InvalidData` if it is not UTF-8.
pub fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not text in UTF-8"))
}

/// The first bytes of a file, fewer if it is shorter.
///
/// # Errors
/// If it cannot be opened or read, or is not a regular file.
pub fn beginning(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens a regular file to read it, through links. A pipe or a device is refused, and not waited for.
///
/// # Errors
/// `InvalidInput` if it is not a regular file, and those of opening it.
pub fn open(path: &Path) -> io::Result<File> {
    opened(path, OFlags::empty())
}

/// As [`open`], if the path itself is no link.
///
/// # Errors
/// As [`open`].
pub fn open_no_link(path: &Path) -> io::Result<File> {
    opened(path, OFlags::NOFOLLOW)
}

fn opened(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(confined::told)?);
    confined::is_regular(&file)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_no_small_regular_file_is_refused_at_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = |name: &str| dir.path().join(name);
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .expect("a pipe");
        symlink("/dev/zero", at("zero")).expect("a link");
        File::create(at("sparse")).and_then(|file| file.set_len(1 << 40)).expect("a sparse file");
        std::fs::create_dir(at("folder")).expect("a folder");
        let reason = |name: &str| of_user(&at(name), Cap::Lock).expect_err(name).to_string();
        for name in ["pipe", "zero", "folder"] {
            assert_eq!(reason(name), "it is not a regular file", "{name}");
        }
        assert_eq!(reason("sparse"), "it is longer than 4.2 MB");
        let file = open(&at("sparse")).expect("a regular file");
        confined::read_all(&file, Cap::Lock.most()).expect_err("it is too long");
        assert_eq!(rustix::fs::tell(&file).expect("a place"), 0, "some of it was read");
    }

    #[test]
    fn the_user_may_lead_elsewhere_and_a_project_may_not() {
        let dir = tempfile::tempdir().expect("a folder");
        let project = dir.path().join("project");
        std::fs::create_dir(&project).expect("a folder");
        std::fs::write(dir.path().join("file"), "text").expect("written");
        symlink("../file", project.join("link")).expect("a link");
        symlink("link", project.join("again")).expect("a link");
        assert_eq!(text_of_user(&project.join("again"), Cap::Secret).expect("read"), "text");
        let refused = of_project(&project, &project.join("again"), Cap::Lock).expect_err("it lies outside");
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert!(open_no_link(&project.join("again")).is_err());
        assert_eq!(beginning(&dir.path().join("file"), 2).expect("read"), b"te");
    }
}
