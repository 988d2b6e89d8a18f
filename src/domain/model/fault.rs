//! The ways in which a build goes wrong. Not responsible for: what follows from it.

use serde::{Deserialize, Serialize};

/// Whose fault a failure is. Nothing else decides whether another try is made and how the process exits; codes and
/// messages are for people and programs that read them, and decide nothing. `docs/exit-codes.md` has the table.
///
/// Whoever makes a [`Fault`] or defines an error gives it its class, there and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultClass {
    /// A setting, a flag or a name on the command line: it never works as it stands, whoever waits. Made by whatever reads
    /// settings: the command line, the workflow, a provider that checks its own.
    Configuration,
    /// A service refuses this user: a token is missing or lacks a right, a quota is used up. Made by whatever speaks to a
    /// service.
    Denied,
    /// A service, a runner or something on this machine is not to be had; another try at once does not help. Made by
    /// adapters, and by the application for this machine's own faults.
    Unavailable,
    /// A connection, a daemon or a runner was lost, or a service failed: another try may succeed. Made by adapters.
    Infrastructure,
    /// What is built is wrong: a declaration, a Dockerfile, a step. Made by whatever reads or builds what the user wrote.
    Build,
    /// The build needs more memory than its runner has. Made on evidence only (ADR-039), by whatever reads the kernel's
    /// counters or a step's end.
    OutOfMemory,
    /// Somebody stopped it. Made by whoever was told to stop.
    Cancelled,
    /// lian-build itself failed. Made where an invariant broke or a task panicked.
    Bug,
}

impl FaultClass {
    /// Whether the answer was a plain no: nothing was begun, and another try gets the same answer.
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::Configuration | Self::Denied | Self::Unavailable)
    }
}

/// An error that knows whose fault it is. Each error type of the crate implements it beside its definition.
pub trait Classified {
    /// Whose fault it is.
    fn class(&self) -> FaultClass;
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

impl FaultKind {
    /// The class of such a fault, where its maker does not say another one.
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
    /// As far as evidence goes.
    pub kind: FaultKind,
    /// Only where it is not what the kind says: what was written before there were classes reads and writes the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    class: Option<FaultClass>,
    /// Stable, `lian::module::cause`.
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
            class: None,
            code: code.to_owned(),
            message: message.into(),
            step: None,
            evidence: None,
            log_tail: Vec::new(),
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

    /// Says whose fault it is where that is not what its kind says.
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
