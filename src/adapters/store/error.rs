//! Errors of the project's history, logs and `lian.lock`. Not responsible for: hiding paths.

use std::path::PathBuf;

use crate::domain::model::{Classified, FaultClass};
use crate::system::sqlite::OpenError;

/// The cause of an I/O or database failure.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The operating system.
    #[error(transparent)]
    Io(std::io::Error),
    /// SQLite.
    #[error(transparent)]
    Database(rusqlite::Error),
}

/// An operation on the project's state failed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum StoreError {
    /// A file or folder could not be read or written.
    #[error("cannot {what} {path}")]
    #[diagnostic(code(lian::store::io), help("check whether the path is a folder of this machine that works"))]
    Io {
        /// The operation.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The disk is full.
    #[error("no space is left to write {path}")]
    #[diagnostic(
        code(lian::store::disk_full),
        help(
            "free space on the disk of the project (its quota counts, too), then run it again; `lian-build gc` removes old images"
        )
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
            "make it yours and writable, or choose another folder with `--state` or LIAN_STATE: `lian-build apply` keeps its \
             history there; `check` and `plan` need none"
        )
    )]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Cause,
    },
    /// The file is not a database, or is damaged.
    #[error("the history {path} is damaged")]
    #[diagnostic(
        code(lian::store::corrupt),
        help(
            "move it aside, and keep it: it knows which runners are still to be given back. Then `lian-build leases \
             --provider …` lists what its provider has, and `lian-build leases gc --provider … --lease ID` gives it back. \
             Images stay; estimates and the list of runs begin anew"
        )
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// SQLite's error.
        #[source]
        source: rusqlite::Error,
    },
    /// Somebody else made tables, views or triggers in the file.
    #[error("the history {path} holds what no lian-build made")]
    #[diagnostic(
        code(lian::store::foreign),
        help("it may be a stranger's: move it aside, and keep it if runners of yours may still be to be given back")
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Another process held the lock for too long.
    #[error("the history {path} is held by another process")]
    #[diagnostic(code(lian::store::busy), help("run it again when the other lian-build is done: `lian-build runs`"))]
    Busy {
        /// The file.
        path: PathBuf,
        /// SQLite's error.
        #[source]
        source: rusqlite::Error,
    },
    /// Any other SQLite error.
    #[error("the history {path} cannot be used")]
    #[diagnostic(
        code(lian::store::database),
        help(
            "check whether the disk is well, and run it again. Where that does not help, move it aside, and keep it: it knows which runners are still to be given back. Then `lian-build leases \
             --provider …` lists what its provider has, and `lian-build leases gc --provider … --lease ID` gives it back. \
             Images stay; estimates and the list of runs begin anew"
        )
    )]
    Database {
        /// The file.
        path: PathBuf,
        /// SQLite's error.
        #[source]
        source: rusqlite::Error,
    },
    /// The history was written by a newer lian-build.
    #[error("the history {path} has version {found}, and this lian-build knows {known}")]
    #[diagnostic(
        code(lian::store::newer),
        help(
            "use the newer lian-build: the file also knows which runners are still to be given back. Where there is none, \
             move it aside, and keep it: it knows which runners are still to be given back. Then `lian-build leases \
             --provider …` lists what its provider has, and `lian-build leases gc --provider … --lease ID` gives it back. \
             Images stay; estimates and the list of runs begin anew"
        )
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: u32,
        /// The schema version of this program.
        known: u32,
    },
    /// No run has this id.
    #[error("there is no run `{wanted}`")]
    #[diagnostic(code(lian::store::unknown_run), help("`lian-build runs` lists them; `latest` is the newest"))]
    UnknownRun {
        /// As typed.
        wanted: String,
    },
    /// The prefix matches several runs.
    #[error("`{wanted}` may be any of {candidates}")]
    #[diagnostic(code(lian::store::ambiguous_run), help("type more of the id"))]
    AmbiguousRun {
        /// As typed.
        wanted: String,
        /// Some of the matching runs.
        candidates: String,
    },
    /// A run has no log of this layer.
    #[error("run {run} has no log of `{layer}`")]
    #[diagnostic(code(lian::store::no_log), help("{help}"))]
    NoLog {
        /// The run.
        run: String,
        /// The layer.
        layer: String,
        /// The layers that have a log.
        help: String,
    },
    /// `lian.lock` is invalid.
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
        /// The position.
        #[label("here")]
        at: miette::SourceSpan,
    },
}

impl Classified for StoreError {
    fn class(&self) -> FaultClass {
        match self {
            Self::UnknownRun { .. } | Self::AmbiguousRun { .. } | Self::NoLog { .. } => FaultClass::Configuration,
            Self::Lock { .. } => FaultClass::Build,
            Self::Io { .. }
            | Self::DiskFull { .. }
            | Self::ReadOnly { .. }
            | Self::Corrupt { .. }
            | Self::Foreign { .. }
            | Self::Busy { .. }
            | Self::Database { .. }
            | Self::Newer { .. } => FaultClass::Unavailable,
        }
    }
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

    /// Wraps a SQLite error by its remedy.
    pub(super) fn database(path: &std::path::Path) -> impl Fn(rusqlite::Error) -> Self + use<> {
        use rusqlite::ErrorCode;
        let path = path.to_owned();
        move |source| {
            let path = path.clone();
            match source.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => Self::DiskFull { path, source: Cause::Database(source) },
                Some(ErrorCode::SystemIoFailure) if wants_room(&source) => {
                    Self::DiskFull { path, source: Cause::Database(source) }
                }
                Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                    Self::ReadOnly { path, source: Cause::Database(source) }
                }
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt { path, source },
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path, source },
                // A row whose values nobody of us wrote.
                None if matches!(source, rusqlite::Error::FromSqlConversionFailure(..)) => {
                    Self::Corrupt { path, source }
                }
                _ => Self::Database { path, source },
            }
        }
    }

    /// Wraps an error of opening the history.
    pub(super) fn opening(path: &std::path::Path) -> impl FnOnce(OpenError) -> Self + use<> {
        let path = path.to_owned();
        move |error| match error {
            OpenError::Io(error) => Self::io("open", &path)(error),
            OpenError::Sqlite(error) => Self::database(&path)(error),
        }
    }
}

/// Whether SQLite failed to write for lack of space. SQLite does not return `SQLITE_FULL` if the WAL index cannot
/// grow, a quota is exceeded, or a flush fails.
fn wants_room(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::{SQLITE_IOERR_FSYNC, SQLITE_IOERR_SHMSIZE, SQLITE_IOERR_TRUNCATE, SQLITE_IOERR_WRITE};
    let extended = error.sqlite_error().map(|error| error.extended_code);
    extended.is_some_and(|extended| {
        [SQLITE_IOERR_SHMSIZE, SQLITE_IOERR_WRITE, SQLITE_IOERR_FSYNC, SQLITE_IOERR_TRUNCATE].contains(&extended)
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn told(extended: i32) -> StoreError {
        let failure = rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(extended), None);
        StoreError::database(Path::new("/p/state/lian.db"))(failure)
    }

    fn help(error: &StoreError) -> String {
        miette::Diagnostic::help(error).expect("help").to_string()
    }

    #[test]
    fn a_disk_without_room_is_told_as_such_whichever_way_sqlite_notices() {
        // By number: SQLITE_FULL, and SQLITE_IOERR_ with WRITE, FSYNC, TRUNCATE and SHMSIZE.
        for code in [13, 778, 1034, 1546, 4874] {
            let error = told(code);
            assert!(matches!(error, StoreError::DiskFull { .. }), "{code}: {error:?}");
            assert!(help(&error).contains("free space") && !help(&error).contains("aside"), "{code}: {}", help(&error));
        }
        // SQLITE_IOERR_READ and SQLITE_IOERR_LOCK have other causes.
        for code in [266, 3850] {
            assert!(matches!(told(code), StoreError::Database { .. }), "{code}");
        }
    }

    #[test]
    fn whoever_parts_with_the_history_is_told_of_the_ledger_in_it() {
        // SQLITE_CORRUPT, SQLITE_NOTADB, SQLITE_IOERR_READ.
        let newer = StoreError::Newer { path: "/p/state/lian.db".into(), found: 9, known: 3 };
        for error in [told(11), told(26), told(266), newer] {
            let help = help(&error);
            assert!(help.contains("runners are still to be given back"), "{help}");
            assert!(
                help.contains("keep it") && help.contains("`lian-build leases gc --provider … --lease ID`"),
                "{help}"
            );
        }
    }
}
