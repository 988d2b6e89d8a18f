//! What goes wrong with a project's memory. Refuses: hiding the path.

use std::path::PathBuf;

/// The project's memory failed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum StoreError {
    /// A file or folder could not be read or written.
    #[error("cannot {what} {path}")]
    #[diagnostic(code(lian::store::io), help("check the permissions and the free space there"))]
    Io {
        /// The verb.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// SQLite refused.
    #[error("the history {path} cannot be used")]
    #[diagnostic(
        code(lian::store::database),
        help(
            "free some disk space; a damaged history may be deleted: images stay, only estimates and the list of runs are lost"
        )
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
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}
