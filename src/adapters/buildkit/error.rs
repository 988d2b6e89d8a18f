//! The errors of finding, starting and asking BuildKit. Not responsible for: faults of a build (see `classify`).

use std::path::PathBuf;

use crate::domain::model::{Classified, FaultClass};
use crate::system::DataFolderError;

/// BuildKit is missing, or did not do what it was asked.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum BuildkitError {
    /// There is no place for the daemon's files.
    #[error(transparent)]
    #[diagnostic(transparent)]
    DataFolder(#[from] DataFolderError),
    /// A program was not found.
    #[error("{name} was not found in {searched}")]
    #[diagnostic(
        code(lian::buildkit::not_found),
        help(
            "put it on the PATH, or its folder in LIAN_BUILDKIT_BIN: it is in the releases of moby/buildkit (`make setup` in a \
             checkout fetches it); or build in Docker: `--provider docker-local`; `lian-build doctor` tells more"
        )
    )]
    NotFound {
        /// The binary.
        name: &'static str,
        /// The folders that were searched.
        searched: String,
    },
    /// There is no OCI runtime, which runs the steps.
    #[error("runc is not on the PATH: buildkitd cannot run the steps of a Dockerfile without it")]
    #[diagnostic(code(lian::buildkit::no_runc), help("install runc, e.g. `apt-get install runc`"))]
    NoRunc,
    /// An ordinary user cannot start the daemon.
    #[error("a BuildKit daemon of our own needs root, and this is user {uid}")]
    #[diagnostic(
        code(lian::buildkit::not_root),
        help(
            "start a rootless buildkitd (its docs/rootless.md says how), or use a running one, and say \
             BUILDKIT_HOST=unix:///path/to/buildkitd.sock"
        )
    )]
    NotRoot {
        /// The id of the user.
        uid: u32,
    },
    /// Our own daemon ended, or never became ready.
    #[error("buildkitd {what}; the end of {log}:\n{tail}")]
    #[diagnostic(code(lian::buildkit::daemon_failed), help("{help}"))]
    DaemonFailed {
        /// What happened.
        what: String,
        /// Its log.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
        /// The next action.
        help: String,
    },
    /// A daemon at a given address does not answer.
    #[error("no BuildKit daemon answers at {address}: {what}")]
    #[diagnostic(
        code(lian::buildkit::unreachable),
        help("start it, or unset BUILDKIT_HOST to let lian-build start one of its own")
    )]
    Unreachable {
        /// The address.
        address: String,
        /// What buildctl said.
        what: String,
    },
    /// A file or folder of the daemon cannot be used.
    #[error("{what}: {path}")]
    #[diagnostic(
        code(lian::buildkit::io),
        help("check the permissions and the free space there, or set LIAN_DATA_DIR to another folder")
    )]
    Io {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A program of BuildKit's (or docker, podman) ended with an error.
    #[error("`{command}` failed: {what}")]
    #[diagnostic(code(lian::buildkit::command), help("{help}"))]
    Command {
        /// The command, without its secrets.
        command: String,
        /// What it said.
        what: String,
        /// The next action.
        help: String,
    },
    /// A duration is not written as `600`, `90s`, `10m` or `1h`.
    #[error("LIAN_DAEMON_IDLE={value} is not a time")]
    #[diagnostic(code(lian::buildkit::idle), help("write it as `600`, `90s`, `10m` or `1h`"))]
    Idle {
        /// As written.
        value: String,
    },
    /// `LIAN_NETWORK` is neither `own` nor `host`.
    #[error("LIAN_NETWORK={value} is not a network of steps")]
    #[diagnostic(code(lian::buildkit::network), help("write `own` or `host`"))]
    Network {
        /// As written.
        value: String,
    },
}

impl Classified for BuildkitError {
    fn class(&self) -> FaultClass {
        match self {
            Self::Idle { .. } | Self::Network { .. } | Self::DataFolder(_) => FaultClass::Configuration,
            Self::NotFound { .. }
            | Self::NoRunc
            | Self::NotRoot { .. }
            | Self::DaemonFailed { .. }
            | Self::Unreachable { .. }
            | Self::Io { .. }
            | Self::Command { .. } => FaultClass::Unavailable,
        }
    }
}
