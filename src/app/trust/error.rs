//! Errors of grants and of the user's configuration. Not responsible for: refusals, which are diagnostics with a place.

use std::path::PathBuf;

use crate::domain::model::{Classified, FaultClass};

/// Grants or the user's configuration cannot be used.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum TrustError {
    /// A file of grants cannot be read.
    #[error("the grants in {} cannot be read: {what}", path.display())]
    #[diagnostic(code(lian::trust::grants), help("write it anew: lian-build trust --export > FILE"))]
    Grants {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A file of grants came with the repository.
    #[error("git tracks {}, so whoever wrote the project would grant that to themselves", path.display())]
    #[diagnostic(
        code(lian::trust::tracked),
        help("keep the file out of the repository, where only you or your CI's operators can change it")
    )]
    Tracked {
        /// The file.
        path: PathBuf,
    },
    /// The user's configuration cannot be read.
    #[error("your configuration {} cannot be read: {what}", path.display())]
    #[diagnostic(
        code(lian::trust::user_config),
        help("it is TOML: `[endpoints]`, then a line for each provider, such as `vm_pool = \"https://pool.example\"`")
    )]
    UserConfig {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// No such grant.
    #[error("there is no grant `{id}` in this project")]
    #[diagnostic(
        code(lian::trust::unknown_grant),
        help("`lian-build trust --list` lists them; `--revoke all` takes all back")
    )]
    Unknown {
        /// As typed.
        id: String,
    },
    /// The address in the ledger is not the user's.
    #[error("its provider is at {endpoint}, which you have not granted: nothing was sent there")]
    #[diagnostic(
        code(lian::trust::endpoint),
        help("if that address is yours, set {variable}={endpoint}, or add `--trust all` to this command")
    )]
    LedgerEndpoint {
        /// The address.
        endpoint: String,
        /// The variable that names the user's own.
        variable: &'static str,
    },
}

impl Classified for TrustError {
    fn class(&self) -> FaultClass {
        FaultClass::Configuration
    }
}
