//! The interface for reading a layer's inputs from disk. Not responsible for: validating them.

use std::path::{Path, PathBuf};

use super::images::StagingFolder;
use crate::domain::base::human_bytes;
use crate::domain::model::{Classified, FaultClass, FileKind, Listing};

/// lian-build's own entries in a context, as patterns of an ignore file. They are part of no build and so of no key.
/// `.lian` changes during a build. `.build-spec.ncl` chooses the runner; it does not affect content. `lian.lock` is
/// written by the run that first needs a pin, and a pin is part of the keys of those who use it.
pub const OWN: [&str; 3] = [".lian", ".build-spec.ncl", "**/lian.lock"];

/// A Dockerfile and its ignore file, byte for byte as the layer's key knows them. A build is given these bytes and not
/// the files: BuildKit follows a link only inside the folder that it is given, and we follow it through the project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Definition {
    /// The Dockerfile.
    pub dockerfile: Vec<u8>,
    /// The ignore file; `None` if there is none.
    pub ignore: Option<Vec<u8>>,
}

/// The modes of a context's files in its listing: those that the build gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Modes {
    /// As on the disk: buildctl reads the folder itself.
    #[default]
    AsIs,
    /// As git has them, 755 or 644, whatever the umask was: we copy the files to where they are built.
    Git,
}

impl Modes {
    /// A file's mode in the listing, from its mode on the disk.
    pub fn of(self, kind: FileKind, mode: u32) -> u32 {
        match self {
            Self::AsIs => mode,
            Self::Git => kind.git_mode(mode),
        }
    }
}

/// A context could not be read.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ContextError {
    /// The folder does not exist.
    #[error("the context {path} does not exist")]
    #[diagnostic(code(lian::context::missing), help("create the folder, or correct `context`"))]
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// The folder, the Dockerfile or its ignore file lies outside the project.
    #[error("{path} leads outside the project {root}")]
    #[diagnostic(
        code(lian::context::outside),
        help("keep contexts, Dockerfiles and ignore files below the project's root: copy in what a link leads to")
    )]
    Outside {
        /// The path, as declared.
        path: PathBuf,
        /// The project root.
        root: PathBuf,
    },
    /// The ignore file is a link that leads to no file.
    #[error("{path} is a link that leads to nothing")]
    #[diagnostic(
        code(lian::context::dangling),
        help("let it lead to a file of the project, or remove it: without it nothing would be left out of the build")
    )]
    Dangling {
        /// The link.
        path: PathBuf,
    },
    /// The ignore file has an invalid pattern.
    #[error("{path}, line {line}: {what}")]
    #[diagnostic(code(lian::context::ignore_pattern), help("correct the pattern"))]
    Pattern {
        /// The ignore file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// It holds more bytes than a context may.
    #[error("the context holds more than {}: {} alone has {}", human_bytes(*.most), .largest.display(), human_bytes(*.size))]
    #[diagnostic(
        code(lian::context::too_large),
        help("leave out in .dockerignore what the build does not need, or allow more: LIAN_CONTEXT_GB=GIGABYTES")
    )]
    TooLarge {
        /// The largest file so far.
        largest: PathBuf,
        /// Its size, in bytes.
        size: u64,
        /// So many bytes are allowed.
        most: u64,
    },
    /// It holds more files and folders than a context may.
    #[error("the context holds more than {most} files and folders; the last one was {path}")]
    #[diagnostic(
        code(lian::context::too_many),
        help("leave out in .dockerignore what the build does not need, or allow more: LIAN_CONTEXT_FILES=NUMBER")
    )]
    TooMany {
        /// Where the count went over.
        path: PathBuf,
        /// So many are allowed.
        most: usize,
    },
    /// The ignore file makes more work than a context may take.
    #[error("the ignore file has too many patterns to compare them with all of the context; the last entry was {path}")]
    #[diagnostic(
        code(lian::context::too_many_patterns),
        help(
            "leave out whole folders in .dockerignore, which are then not read, instead of many files or with long wildcards"
        )
    )]
    Patterns {
        /// Where it became too much.
        path: PathBuf,
    },
    /// A file could not be read.
    #[error("cannot read {path}")]
    #[diagnostic(code(lian::context::unreadable), help("check its permissions, or exclude it in .dockerignore"))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
}

impl Classified for ContextError {
    fn class(&self) -> FaultClass {
        FaultClass::Build
    }
}

/// Reads build contexts. The calls block.
pub trait ContextReader: Send + Sync {
    /// Every entry that a build of `dockerfile` with `context` would see. Both paths must resolve to locations inside
    /// `project_root`.
    fn list(&self, project_root: &Path, context: &Path, dockerfile: &Path) -> Result<Listing, ContextError>;

    /// A copy of the context to build instead, where a builder could mistake its files for others of the same path, size
    /// and time; `None` if it can read the context itself.
    fn told_apart(&self, _context: &Path, _listing: &Listing) -> Result<Option<Box<dyn StagingFolder>>, ContextError> {
        Ok(None)
    }
}
