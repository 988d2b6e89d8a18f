//! What goes wrong with a project's memory. Refuses: hiding the path.

use std::path::PathBuf;

/// What the system or SQLite said.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The system.
    #[error(transparent)]
    Io(std::io::Error),
    /// SQLite.
    #[error(transparent)]
    Database(rusqlite::Error),
}

/// The project's memory failed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum StoreError {
    /// A file or folder could not be read or written.
    #[error("cannot {what} {path}")]
    #[diagnostic(code(lian::store::io), help("see whether the path is a folder of this machine that works"))]
    Io {
        /// The verb.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// There is no room.
    #[error("no space is left to write {path}")]
    #[diagnostic(
        code(lian::store::disk_full),
        help("free some disk space, e.g. with `lian-build gc`, then run it again")
    )]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Cause,
    },
    /// Writing is not allowed.
    #[error("{path} cannot be used: it, its folder or the disk is read-only, or another user's")]
    #[diagnostic(
        code(lian::store::read_only),
        help(
            "make the project's `.lian` folder writable: `lian-build apply` keeps its history there; `check` and `plan` need none"
        )
    )]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Cause,
    },
    /// The file is no database, or damaged.
    #[error("the history {path} is damaged")]
    #[diagnostic(
        code(lian::store::corrupt),
        help("it may be deleted: images stay, only estimates and the list of runs are lost")
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// SQLite's answer.
        #[source]
        source: rusqlite::Error,
    },
    /// Another process held it for too long.
    #[error("the history {path} is held by another process")]
    #[diagnostic(code(lian::store::busy), help("run it again when the other lian-build is done: `lian-build runs`"))]
    Busy {
        /// The file.
        path: PathBuf,
        /// SQLite's answer.
        #[source]
        source: rusqlite::Error,
    },
    /// SQLite refused for another reason.
    #[error("the history {path} cannot be used")]
    #[diagnostic(
        code(lian::store::database),
        help("move it away and run it again: images stay, only estimates and the list of runs are lost")
    )]
    Database {
        /// The file.
        path: PathBuf,
        /// SQLite's answer.
        #[source]
        source: rusqlite::Error,
    },
    /// The history was written by a newer lian-build.
    #[error("the history {path} has version {found}, and this lian-build knows {known}")]
    #[diagnostic(
        code(lian::store::newer),
        help("use the newer lian-build, or delete the file: only estimates and the list of runs are lost")
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// No run has such an id.
    #[error("there is no run `{wanted}`")]
    #[diagnostic(code(lian::store::unknown_run), help("`lian-build runs` lists them; `latest` is the newest"))]
    UnknownRun {
        /// As typed.
        wanted: String,
    },
    /// Several runs have ids that begin so.
    #[error("`{wanted}` may be any of {candidates}")]
    #[diagnostic(code(lian::store::ambiguous_run), help("type more of the id"))]
    AmbiguousRun {
        /// As typed.
        wanted: String,
        /// Some of them.
        candidates: String,
    },
    /// A run kept no log of this layer.
    #[error("run {run} has no log of `{layer}`")]
    #[diagnostic(code(lian::store::no_log), help("{help}"))]
    NoLog {
        /// The run.
        run: String,
        /// The layer.
        layer: String,
        /// The layers that have one.
        help: String,
    },
    /// `lian.lock` cannot be read.
    #[error("{path}: {what}")]
    #[diagnostic(
        code(lian::lock::parse),
        help(
            "restore the file from version control, or delete it: `lian-build apply` writes it anew with what the tags mean now"
        )
    )]
    Lock {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// Its text.
        #[source_code]
        text: miette::NamedSource<String>,
        /// Where.
        #[label("here")]
        at: miette::SourceSpan,
    },
}

impl StoreError {
    /// Wraps an I/O error.
    pub(super) fn io(what: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        use std::io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
        let path = path.to_owned();
        move |source| match source.kind() {
            StorageFull | QuotaExceeded => Self::DiskFull { path, source: Cause::Io(source) },
            PermissionDenied | ReadOnlyFilesystem if what != "read" => {
                Self::ReadOnly { path, source: Cause::Io(source) }
            }
            _ => Self::Io { what, path, source },
        }
    }

    /// Wraps SQLite's answer by what can be done about it.
    pub(super) fn database(path: &std::path::Path) -> impl Fn(rusqlite::Error) -> Self + use<> {
        use rusqlite::ErrorCode;
        let path = path.to_owned();
        move |source| {
            let path = path.clone();
            match source.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => Self::DiskFull { path, source: Cause::Database(source) },
                Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                    Self::ReadOnly { path, source: Cause::Database(source) }
                }
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt { path, source },
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path, source },
                _ => Self::Database { path, source },
            }
        }
    }
}
