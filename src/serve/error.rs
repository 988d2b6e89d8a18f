//! Errors that stop the service from starting. Not responsible for: invalid requests (`problem`).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::domain::model::{Classified, FaultClass};

/// The service cannot start or run.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ServeError {
    /// A file or folder could not be used.
    #[error("cannot {what} {path}")]
    #[diagnostic(code(lian::serve::io), help("make the folder of --data writable, or name another one"))]
    Io {
        /// The operation, as a verb.
        what: &'static str,
        /// Path of the file or folder.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// The folder holds something else.
    #[error("{} is there, and holds no ledger of leases", path.display())]
    #[diagnostic(code(lian::serve::occupied), help("name a folder with --data that is empty, or not there yet"))]
    Occupied {
        /// The data folder.
        path: PathBuf,
    },
    /// Somebody else made tables, views or triggers in the ledger.
    #[error("the ledger of leases {} holds what no lian-build made", path.display())]
    #[diagnostic(
        code(lian::serve::foreign),
        help("it may be a stranger's: name another folder with --data, and look into that file before it is deleted")
    )]
    Foreign {
        /// Path of the ledger.
        path: PathBuf,
    },
    /// SQLite returned an error.
    #[error("the ledger of leases {path} cannot be used")]
    #[diagnostic(
        code(lian::serve::ledger),
        help(
            "free some disk space or restore the file: it says which machines are to be given back, do not delete it"
        )
    )]
    Ledger {
        /// Path of the ledger.
        path: PathBuf,
        /// The error of SQLite.
        #[source]
        source: rusqlite::Error,
    },
    /// The ledger was written by a newer lian-build.
    #[error("the ledger of leases {path} has version {found}, and this lian-build knows {known}")]
    #[diagnostic(code(lian::serve::newer), help("use the newer lian-build"))]
    Newer {
        /// Path of the ledger.
        path: PathBuf,
        /// Schema version of the ledger.
        found: u32,
        /// Highest version that this program supports.
        known: u32,
    },
    /// Another service holds the lock of the data folder.
    #[error("another `lian-build serve` works on {path}")]
    #[diagnostic(code(lian::serve::held), help("stop that one, or name another folder with --data"))]
    Held {
        /// The data folder.
        path: PathBuf,
    },
    /// The token file is invalid.
    #[error("the tokens file {path} cannot be used: {what}")]
    #[diagnostic(
        code(lian::serve::tokens),
        help("`lian-build serve hash-token` prints an entry: `[[tokens]]` with `name`, `sha256` and `workspaces`")
    )]
    Tokens {
        /// Path of the token file.
        path: PathBuf,
        /// All faults in it.
        what: String,
    },
    /// An address, but no tokens: whoever reaches it could lease.
    #[error(
        "whoever reaches {address} may lease, for there are no tokens: steps of builds and other users of this machine do"
    )]
    #[diagnostic(
        code(lian::serve::open),
        help(
            "give --tokens FILE (`lian-build serve hash-token` prints an entry), or listen on a socket file of this user: leave \
             --listen out, or write unix:/path"
        )
    )]
    Open {
        /// The requested address.
        address: SocketAddr,
    },
    /// The path of the socket is too long for the operating system.
    #[error("a socket cannot have so long a path: {path}")]
    #[diagnostic(
        code(lian::serve::socket_path),
        help("listen on a shorter one of at most {most} bytes, e.g. with --listen unix:/run/user/1000/pool.sock")
    )]
    SocketPath {
        /// The requested path.
        path: PathBuf,
        /// The longest path, in bytes.
        most: usize,
    },
    /// The place cannot be listened on.
    #[error("cannot listen on {place}")]
    #[diagnostic(
        code(lian::serve::listen),
        help("choose another place with --listen, e.g. 127.0.0.1:0 for a free port, or unix:/path")
    )]
    Listen {
        /// The requested place.
        place: String,
        /// The error of the operating system.
        #[source]
        source: std::io::Error,
    },
}

impl Classified for ServeError {
    fn class(&self) -> FaultClass {
        match self {
            Self::Tokens { .. } | Self::Open { .. } | Self::SocketPath { .. } | Self::Occupied { .. } => {
                FaultClass::Configuration
            }
            Self::Io { .. }
            | Self::Foreign { .. }
            | Self::Ledger { .. }
            | Self::Newer { .. }
            | Self::Held { .. }
            | Self::Listen { .. } => FaultClass::Unavailable,
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
