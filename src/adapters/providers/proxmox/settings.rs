//! What `providers.proxmox` says (`schemas/providers/proxmox.ncl`). Not responsible for: the token, which comes from the environment.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::domain::base::Platform;

/// Virtual machines cloned from a template. The token is `PROXMOX_TOKEN`'s (`USER@REALM!TOKENID=UUID`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxmoxSettings {
    /// `https://host:8006`.
    pub endpoint: String,
    /// The node that holds the template and runs the machines.
    pub node: String,
    /// The template's id.
    pub template: u32,
    /// The range of ids to clone to, both ends included.
    pub ids: (u32, u32),
    /// The pool that the machines join.
    #[serde(default)]
    pub pool: Option<String>,
    /// SHA-256 fingerprint of the API's certificate, `AB:CD:…`: pinned.
    #[serde(default)]
    pub fingerprint: Option<String>,
    /// A CA certificate (PEM) of the API, where no fingerprint is pinned.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Whether clones are full ones rather than linked.
    #[serde(default)]
    pub full_clone: bool,
    /// What the machines are, `linux/amd64` where unset.
    #[serde(default = "amd64")]
    pub platform: Platform,
}

fn amd64() -> Platform {
    "linux/amd64".into()
}
