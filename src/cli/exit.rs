//! Exit codes, and errors that carry theirs. Not responsible for: drawing them.

use std::process::ExitCode;

use crate::app::{Error, ErrorKind};
use crate::domain::model::FaultClass;

/// What programs may rely on (see `docs/exit-codes.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// A layer failed or the catalog is invalid.
    Failed = 1,
    /// With `--detailed-exitcode`: there are changes.
    Changes = 2,
    /// No runner or outside service.
    Unavailable = 4,
    /// A lease could not be given back; outranks the others.
    Stuck = 5,
    /// Wrong usage.
    Usage = 64,
    /// A bug.
    Bug = 70,
    /// Interrupted.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A command that could not do its work.
#[derive(Debug)]
pub struct Failure {
    /// What is drawn.
    pub what: ErrorKind,
    /// How the process ends.
    pub exit: Exit,
}

impl From<FaultClass> for Exit {
    fn from(class: FaultClass) -> Self {
        match class {
            FaultClass::Configuration => Self::Usage,
            FaultClass::Denied | FaultClass::Unavailable | FaultClass::Infrastructure => Self::Unavailable,
            FaultClass::Build | FaultClass::OutOfMemory => Self::Failed,
            FaultClass::Cancelled => Self::Interrupted,
            FaultClass::Bug => Self::Bug,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { exit: error.class.into(), what: error.what }
    }
}

impl<E: miette::Diagnostic + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Error::from(error).into()
    }
}

impl Failure {
    /// Wrong usage.
    pub fn usage(error: impl Into<miette::Report>) -> Self {
        Error::configuration(error).into()
    }

    /// An outside service or this machine is at fault.
    pub fn unavailable(error: impl Into<miette::Report>) -> Self {
        Error::unavailable(error).into()
    }
}

/// What a command comes to.
pub type Outcome = Result<Exit, Failure>;

/// What a command comes to where a lease is known to be stuck: that outranks all else, errors too.
pub fn outranked(outcome: Outcome, stuck: bool) -> Outcome {
    match outcome {
        outcome if !stuck => outcome,
        Ok(_) => Ok(Exit::Stuck),
        Err(failure) => Err(Failure { exit: Exit::Stuck, ..failure }),
    }
}

/// Output of this form makes no sense for the command.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("`--format {format}` is for `lian-build plan` only")]
#[diagnostic(code(lian::cli::format), help("use --format text or --format json"))]
pub struct WrongFormat {
    /// As typed.
    pub format: String,
}
