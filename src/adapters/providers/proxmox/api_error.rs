//! Classifies API errors and decides which may be retried. Not responsible for: retrying.

use std::time::Duration;

use crate::domain::base::human_duration;
use crate::domain::model::{Fault, FaultKind};
use crate::system::retry::Retry;

/// How much of the API's own words is repeated.
pub(super) const MESSAGE_CHARS: usize = 500;
/// How many of the fields that it complains of are named.
pub(super) const ERRORS: usize = 20;

/// What is told where nothing came in time.
const SILENT: &str = "it takes the connection, and nothing comes";

/// Why an API request failed.
#[derive(Debug)]
pub(super) enum ApiError {
    /// The server's certificate is not the pinned one; nothing was sent.
    Untrusted(String),
    /// No complete response: the request may have taken effect.
    Unanswered(String),
    /// Nothing came in time: the request may have taken effect. Whether to ask once more.
    Silent(Retry),
    /// The API refused the request.
    Refused { what: String, status: u16, message: String },
    /// A task ended with an error.
    Failed { task: String, exit: String },
    /// The deadline passed.
    Late { waited: Duration, what: String },
    /// A failure outside the API.
    Fault(Fault),
}

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl ApiError {
    fn text(&self) -> &str {
        match self {
            Self::Refused { message: text, .. } | Self::Failed { exit: text, .. } => text,
            _ => "",
        }
    }

    /// Whether the error is temporary.
    fn is_transient(&self) -> bool {
        let busy = ["can't lock file", "got timeout", "got lock request timeout", "got lock timeout"];
        match self {
            Self::Unanswered(_) | Self::Silent(_) => true,
            // Errors of pveproxy itself: it could not reach, or lost, the node or its worker.
            Self::Refused { status: 429 | 502..=504 | 595..=599, .. } => true,
            Self::Refused { status: 500, message, .. } if message.is_empty() => true,
            Self::Refused { status: 500, .. } | Self::Failed { .. } => busy.iter().any(|b| self.text().contains(b)),
            _ => false,
        }
    }

    /// Whether to retry.
    pub(super) fn retry(&self) -> Retry {
        match self {
            Self::Silent(retry) => *retry,
            _ if self.is_transient() => Retry::Counted(None),
            _ => Retry::Never,
        }
    }

    /// The machine does not exist. Errors on existing machines also say "do not exist" of storages, volumes and
    /// snapshots.
    pub(super) fn is_gone(&self) -> bool {
        let text = self.text();
        text.find("Configuration file").is_some_and(|at| text[at..].contains("does not exist"))
    }

    /// The API has no such method: it is an older release, or something else that speaks like one.
    pub(super) fn is_unknown_method(&self) -> bool {
        matches!(self, Self::Refused { status: 404 | 405 | 501, .. })
    }

    /// The id is already in use.
    pub(super) fn is_taken(&self) -> bool {
        self.text().contains("already exists") || self.text().contains("File exists")
    }

    /// The machine is already running.
    pub(super) fn is_running(&self) -> bool {
        self.text().contains("already running")
    }

    /// The machine is running but must be stopped, or the reverse.
    pub(super) fn is_about_running(&self) -> bool {
        self.text().contains("is running") || self.text().contains("not running")
    }

    /// Permission denied; or the machine does not exist, if permissions came with its pool.
    pub(super) fn is_denied(&self) -> bool {
        matches!(self, Self::Refused { status: 401 | 403, .. })
    }

    /// The fault reported to the user.
    pub(super) fn fault(self, boot_timeout: Duration) -> Fault {
        match self {
            Self::Fault(fault) => fault,
            Self::Untrusted(text) => {
                let message = format!("the Proxmox VE API is not trusted: {text}");
                Fault::new(FaultKind::Unavailable, "lian::proxmox::untrusted", message).help(
                    "compare with what `pvenode cert info` shows on the node itself; if the certificate was renewed \
                     there, write its fingerprint into `providers.proxmox.fingerprint`",
                )
            }
            Self::Silent(_) | Self::Unanswered(_) => {
                // Whoever says nothing at all for that long is not asked for another machine either.
                let (kind, text) = match &self {
                    Self::Unanswered(text) => (FaultKind::Infrastructure, text.as_str()),
                    Self::Silent(Retry::Never) => (FaultKind::Unavailable, SILENT),
                    _ => (FaultKind::Infrastructure, SILENT),
                };
                let message = format!("the Proxmox VE API does not answer: {text}");
                Fault::new(kind, "lian::proxmox::unreachable", message)
                    .help("look at `providers.proxmox.endpoint`, and at `systemctl status pveproxy` on the node")
            }
            Self::Refused { what, status, message } if matches!(status, 401 | 403) => {
                let message = format!("Proxmox VE refused {what} with {status}: {message}");
                Fault::denied("lian::proxmox::denied", message).help(
                    "the token (and its user) needs VM.Clone and VM.Audit on the template; VM.Allocate, VM.Audit, \
                     VM.Config.CPU, VM.Config.Memory, VM.Config.Options, VM.Config.Cloudinit, VM.PowerMgmt and \
                     VM.GuestAgent.Audit with VM.GuestAgent.FileRead (VM.Monitor before Proxmox VE 9) on the pool; \
                     Datastore.AllocateSpace on the storage; SDN.Use on the bridge",
                )
            }
            Self::Refused { what, status, message } => {
                let kind = if status >= 500 { FaultKind::Infrastructure } else { FaultKind::Unavailable };
                let message = format!("Proxmox VE refused {what} with {status}: {message}");
                Fault::new(kind, "lian::proxmox::refused", message).help(
                    "look at `providers.proxmox` in the workflow, and at the node's log: `journalctl -u pvedaemon`",
                )
            }
            Self::Failed { task, exit } => {
                let message = format!("the task {task} of Proxmox VE ended with: {exit}");
                Fault::new(FaultKind::Infrastructure, "lian::proxmox::task", message)
                    .help("look at the task's log in the web interface, or with `pvenode task log UPID` on the node")
            }
            Self::Late { waited, what } => {
                let message = format!("after {}: {what}", human_duration(waited));
                let limit = human_duration(boot_timeout);
                Fault::new(FaultKind::Infrastructure, "lian::proxmox::late", message).help(format!(
                    "look at the machine's console; the template needs cloud-init and qemu-guest-agent; a runner may \
                     take `runners.boot_timeout_s` ({limit}) to be ready"
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_is_denied_and_an_api_that_fails_may_do_better_next_time() {
        use crate::domain::model::FaultClass::{Denied, Infrastructure, Unavailable};
        for (status, class) in [(401, Denied), (403, Denied), (400, Unavailable), (500, Infrastructure)] {
            let refused = ApiError::Refused { what: "a clone".into(), status, message: String::new() };
            assert_eq!(refused.fault(Duration::ZERO).class(), class, "{status}");
        }
        assert_eq!(ApiError::Unanswered(String::new()).fault(Duration::ZERO).class(), Infrastructure);
        assert_eq!(ApiError::Silent(Retry::Once).fault(Duration::ZERO).class(), Infrastructure);
        assert_eq!(ApiError::Silent(Retry::Never).fault(Duration::ZERO).class(), Unavailable);
    }

    #[test]
    fn a_machine_is_gone_where_its_configuration_is_and_not_where_a_disk_is() {
        let failed = |exit: &str| ApiError::Failed { task: "UPID:x".into(), exit: exit.into() }.is_gone();
        assert!(failed("Configuration file 'nodes/pve/qemu-server/5000.conf' does not exist"));
        for other in ["storage 'nfs' does not exist", "volume 'local:5000/vm-5000-disk-0.qcow2' does not exist", ""] {
            assert!(!failed(other), "{other}");
        }
    }
}
