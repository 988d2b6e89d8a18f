//! Exit codes, and errors with an exit code. Not responsible for: showing them.

use std::process::ExitCode;

use crate::app::{Error, ErrorKind};
use crate::domain::model::{Classified, FaultClass, RunOutcome};

/// Exit codes that programs may rely on (see `docs/exit-codes.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// A layer failed or the catalog is invalid.
    Failed = 1,
    /// With `--detailed-exitcode`: there are changes.
    Changes = 2,
    /// No runner or external service is available.
    Unavailable = 4,
    /// A lease could not be released; outranks the others.
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

/// A command failed.
#[derive(Debug)]
pub struct Failure {
    /// The error to show.
    pub what: ErrorKind,
    /// The exit code.
    pub exit: Exit,
}

impl Exit {
    /// The exit code of a run that released all leases, from the faults of its failed steps. Faults that a retry
    /// cannot fix outrank those it may fix: one layer that fails by its own fault makes it `Failed`, whatever else
    /// was unavailable.
    pub fn of_run(outcome: RunOutcome, faults: impl IntoIterator<Item = FaultClass>) -> Self {
        let exits: Vec<Self> = faults.into_iter().map(Self::from).collect();
        match outcome {
            _ if exits.contains(&Self::Bug) => Self::Bug,
            RunOutcome::Success => Self::Done,
            RunOutcome::Cancelled => Self::Interrupted,
            RunOutcome::Failure => {
                let ranked = [Self::Failed, Self::Usage, Self::Unavailable];
                ranked.into_iter().find(|exit| exits.contains(exit)).unwrap_or(Self::Failed)
            }
        }
    }
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

impl<E: miette::Diagnostic + Classified + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Error::from(error).into()
    }
}

/// A command's result.
pub type Outcome = Result<Exit, Failure>;

/// A command's result, unless a lease is stuck: that outranks everything, including errors.
pub fn outranked(outcome: Outcome, stuck: bool) -> Outcome {
    match outcome {
        outcome if !stuck => outcome,
        Ok(_) => Ok(Exit::Stuck),
        Err(failure) => Err(Failure { exit: Exit::Stuck, ..failure }),
    }
}

/// The command does not support this output format.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("`--format {format}` is for `lian-build plan` only")]
#[diagnostic(code(lian::cli::format), help("use --format text or --format json"))]
pub struct WrongFormat {
    /// As typed.
    pub format: String,
}

impl Classified for WrongFormat {
    fn class(&self) -> FaultClass {
        FaultClass::Configuration
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use FaultClass::{Bug, Build, Cancelled, Configuration, Denied, Infrastructure, OutOfMemory, Unavailable};

    #[test]
    fn each_class_has_its_exit_code() {
        let table = [
            (Configuration, 64),
            (Denied, 4),
            (Unavailable, 4),
            (Infrastructure, 4),
            (Build, 1),
            (OutOfMemory, 1),
            (Cancelled, 130),
            (Bug, 70),
        ];
        for (class, code) in table {
            assert_eq!(Exit::from(class) as u8, code, "{class:?}");
        }
    }

    #[test]
    fn a_run_is_told_by_what_its_layers_failed_with() {
        let failed: [(&[FaultClass], Exit); 9] = [
            (&[], Exit::Failed),
            (&[Unavailable, Denied, Infrastructure], Exit::Unavailable),
            (&[Configuration], Exit::Usage),
            (&[Unavailable, Configuration], Exit::Usage),
            (&[Unavailable, Build], Exit::Failed),
            (&[Configuration, Build], Exit::Failed),
            (&[OutOfMemory], Exit::Failed),
            (&[Cancelled], Exit::Failed),
            (&[Build, Bug], Exit::Bug),
        ];
        for (faults, exit) in failed {
            assert_eq!(Exit::of_run(RunOutcome::Failure, faults.iter().copied()), exit, "{faults:?}");
        }
        assert_eq!(Exit::of_run(RunOutcome::Success, []), Exit::Done);
        assert_eq!(Exit::of_run(RunOutcome::Cancelled, [Unavailable]), Exit::Interrupted);
        assert_eq!(Exit::of_run(RunOutcome::Cancelled, [Bug]), Exit::Bug);
    }
}
