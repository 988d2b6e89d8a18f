//! Faults of a build and their classes. Not responsible for: their consequences.

use serde::{Deserialize, Serialize};

/// Whose fault a failure is. Only the class decides about retries and the exit code; codes and messages are for
/// people and programs to read. `docs/exit-codes.md` has the table.
///
/// Code that creates a [`Fault`] or defines an error sets its class there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultClass {
    /// A wrong setting, flag or name on the command line: a retry never helps. Set by code that reads settings: the
    /// command line, the workflow, a provider that checks its own.
    Configuration,
    /// A service refuses this user: a token is missing or lacks a right, a quota is used up. Set by code that calls a
    /// service.
    Denied,
    /// A service, a runner or something on this machine is unavailable; an immediate retry does not help. Set by
    /// adapters, and by the application for this machine's own faults.
    Unavailable,
    /// A connection, a daemon or a runner was lost, or a service failed: a retry may succeed. Set by adapters.
    Infrastructure,
    /// The user's input is wrong: a declaration, a Dockerfile, a step. Set by code that reads or builds it.
    Build,
    /// The build needs more memory than its runner has. Set only on evidence (ADR-039), by code that reads the
    /// kernel's counters or a step's end.
    OutOfMemory,
    /// A stop was requested. Set by code that receives the request.
    Cancelled,
    /// lian-build itself failed. Set when an invariant breaks or a task panics.
    Bug,
}

impl FaultClass {
    /// Whether this is a refusal: nothing was begun, and a retry gets the same answer.
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::Configuration | Self::Denied | Self::Unavailable)
    }
}

/// An error with a fault class. Each error type of the crate implements it beside its definition.
pub trait Classified {
    /// Whose fault it is.
    fn class(&self) -> FaultClass;
}

/// Why a step failed, as far as the evidence shows.
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
    /// The daemon, the connection, the runner or the disk failed.
    Infrastructure,
    /// A secret, a file or an image that the build needs does not exist.
    Missing,
    /// Over its time budget.
    Timeout,
    /// No daemon, runner or external service is available; a retry would not help.
    Unavailable,
    /// lian-build itself failed.
    Bug,
}

impl FaultKind {
    /// The default class of this kind.
    pub fn class(self) -> FaultClass {
        match self {
            Self::Build | Self::Verification | Self::ContextMoved | Self::Missing | Self::Timeout => FaultClass::Build,
            Self::OutOfMemory => FaultClass::OutOfMemory,
            Self::Infrastructure => FaultClass::Infrastructure,
            Self::Unavailable => FaultClass::Unavailable,
            Self::Bug => FaultClass::Bug,
        }
    }
}

/// A step's failure, or a provider's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// As far as the evidence shows.
    pub kind: FaultKind,
    /// Set only if it differs from the kind's class, so that faults written before classes existed stay unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    class: Option<FaultClass>,
    /// Stable, `lian::module::cause`.
    pub code: String,
    /// What went wrong, in one line.
    pub message: String,
    /// The Dockerfile's step, e.g. `[4/6] RUN cargo chef cook --release`.
    pub step: Option<String>,
    /// A counter, a text or an exit code that shows the cause.
    pub evidence: Option<String>,
    /// The last lines of the step's log.
    pub log_tail: Vec<String>,
    /// Lines of it above those that look like the cause.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What BuildKit said where it kept no more of the step's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clipped: Option<Box<str>>,
    /// The next action.
    pub help: Option<String>,
}

impl Fault {
    /// A fault with neither step nor log.
    pub fn new(kind: FaultKind, code: &str, message: impl Into<String>) -> Self {
        Self {
            kind,
            class: None,
            code: code.to_owned(),
            message: message.into(),
            step: None,
            evidence: None,
            log_tail: Vec::new(),
            causes: Vec::new(),
            clipped: None,
            help: None,
        }
    }

    /// A setting that can never work as it stands.
    pub fn configuration(code: &str, message: impl Into<String>) -> Self {
        Self::new(FaultKind::Unavailable, code, message).with_class(FaultClass::Configuration)
    }

    /// A service refuses this user.
    pub fn denied(code: &str, message: impl Into<String>) -> Self {
        Self::new(FaultKind::Unavailable, code, message).with_class(FaultClass::Denied)
    }

    /// Whose fault it is.
    pub fn class(&self) -> FaultClass {
        self.class.unwrap_or_else(|| self.kind.class())
    }

    /// Sets the class if it differs from the kind's.
    #[must_use]
    pub fn with_class(mut self, class: FaultClass) -> Self {
        self.class = (class != self.kind.class()).then_some(class);
        self
    }

    /// Sets the help line.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_written_only_where_it_is_not_what_the_kind_says() {
        let json = |fault: &Fault| serde_json::to_value(fault).expect("plain data");
        let plain = Fault::new(FaultKind::Unavailable, "lian::x::y", "no");
        assert!(json(&plain).get("class").is_none());
        assert_eq!(json(&plain.clone().with_class(FaultClass::Unavailable)), json(&plain));
        let denied = Fault::denied("lian::x::y", "no");
        assert_eq!((&json(&denied)["kind"], &json(&denied)["class"]), (&"unavailable".into(), &"denied".into()));
        for fault in [plain, denied, Fault::configuration("lian::x::y", "no")] {
            let read: Fault = serde_json::from_value(json(&fault)).expect("as it was written");
            assert_eq!((read.class(), &read), (fault.class(), &fault));
        }
    }

    #[test]
    fn what_was_written_before_there_were_classes_can_be_read() {
        let old = r#"{"kind":"infrastructure","code":"lian::remote::link_lost","message":"lost","step":null,
            "evidence":null,"log_tail":[],"help":null}"#;
        let fault: Fault = serde_json::from_str(old).expect("an old fault");
        assert_eq!(fault.class(), FaultClass::Infrastructure);
    }
}
