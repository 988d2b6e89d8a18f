//! What keeps the service from starting. Not responsible for: what a request gets wrong (`problem`).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::domain::model::{Classified, FaultClass};

/// The service cannot work.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ServeError {
    /// A file or folder could not be used.
    #[error("cannot {what} {path}")]
    #[diagnostic(code(lian::serve::io), help("make the folder of --data writable, or name another one"))]
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
    #[error("the ledger of leases {path} cannot be used")]
    #[diagnostic(
        code(lian::serve::ledger),
        help(
            "free some disk space or restore the file: it says which machines are to be given back, do not delete it"
        )
    )]
    Ledger {
        /// The file.
        path: PathBuf,
        /// SQLite's answer.
        #[source]
        source: rusqlite::Error,
    },
    /// The ledger was written by a newer lian-build.
    #[error("the ledger of leases {path} has version {found}, and this lian-build knows {known}")]
    #[diagnostic(code(lian::serve::newer), help("use the newer lian-build"))]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// Another service works on the same folder.
    #[error("another `lian-build serve` works on {path}")]
    #[diagnostic(code(lian::serve::held), help("stop that one, or name another folder with --data"))]
    Held {
        /// The folder.
        path: PathBuf,
    },
    /// The tokens cannot be used.
    #[error("the tokens file {path} cannot be used: {what}")]
    #[diagnostic(
        code(lian::serve::tokens),
        help("`lian-build serve hash-token` prints an entry: `[[tokens]]` with `name`, `sha256` and `workspaces`")
    )]
    Tokens {
        /// The file.
        path: PathBuf,
        /// Every fault.
        what: String,
    },
    /// Nobody would be asked who he is.
    #[error("{address} is open to other machines, and there are no tokens")]
    #[diagnostic(
        code(lian::serve::open),
        help("give --tokens FILE (`lian-build serve hash-token` prints an entry), or listen on 127.0.0.1")
    )]
    Open {
        /// As asked for.
        address: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    #[diagnostic(
        code(lian::serve::listen),
        help("choose another address with --listen, e.g. 127.0.0.1:0 for a free port")
    )]
    Listen {
        /// As asked for.
        address: SocketAddr,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
}

impl Classified for ServeError {
    fn class(&self) -> FaultClass {
        match self {
            Self::Tokens { .. } | Self::Open { .. } => FaultClass::Configuration,
            Self::Io { .. } | Self::Ledger { .. } | Self::Newer { .. } | Self::Held { .. } | Self::Listen { .. } => {
                FaultClass::Unavailable
            }
        }
    }
}

impl ServeError {
    /// Wraps an I/O error.
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}
