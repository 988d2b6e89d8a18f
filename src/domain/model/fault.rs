//! The ways in which a build goes wrong. Not responsible for: what follows from it.

use serde::{Deserialize, Serialize};

/// Whose fault a failure is. It decides whether trying again can help, and the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultClass {
    /// A setting, a flag or a name on the command line: it never works as it stands.
    Configuration,
    /// A service refuses: a token lacks a right, a quota is used up.
    Denied,
    /// A service, a runner or this machine is not to be had now; trying again at once does not help.
    Unavailable,
    /// A connection, a daemon or a runner was lost: another try may succeed.
    Infrastructure,
    /// What is built is wrong: a declaration, a Dockerfile, a step.
    Build,
    /// The build needs more memory than its runner has.
    OutOfMemory,
    /// Somebody stopped it.
    Cancelled,
    /// lian-build itself failed.
    Bug,
}

/// Why a step failed, as far as evidence goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// A step of the Dockerfile ended with an error.
    Build,
    /// The build ran out of memory, on evidence (ADR-039).
    OutOfMemory,
    /// The image lacks what the layer promises.
    Verification,
    /// The context changed while it was being built.
    ContextMoved,
    /// The daemon, the link, the runner or the disk.
    Infrastructure,
    /// A secret, a file or an image that the build needs is not there.
    Missing,
    /// Over its time budget.
    Timeout,
    /// No daemon, runner or outside service is to be had; trying again would not help.
    Unavailable,
    /// lian-build itself failed.
    Bug,
}

/// A step's failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// As far as evidence goes.
    pub kind: FaultKind,
    /// Stable, `lian::room::cause`.
    pub code: String,
    /// What went wrong, in one line.
    pub message: String,
    /// The Dockerfile's step, e.g. `[4/6] RUN cargo chef cook --release`.
    pub step: Option<String>,
    /// What shows it: a counter, a text, an exit code.
    pub evidence: Option<String>,
    /// The last lines of the step's log.
    pub log_tail: Vec<String>,
    /// The next action.
    pub help: Option<String>,
}

impl Fault {
    /// A fault with neither step nor log.
    pub fn new(kind: FaultKind, code: &str, message: impl Into<String>) -> Self {
        Self {
            kind,
            code: code.to_owned(),
            message: message.into(),
            step: None,
            evidence: None,
            log_tail: Vec::new(),
            help: None,
        }
    }

    /// Sets the help line.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}
