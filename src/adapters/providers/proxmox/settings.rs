//! The settings `providers.proxmox` (`schemas/providers/proxmox.ncl`). Not responsible for: the token, which comes
//! from the environment.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::domain::base::Platform;

/// Settings for virtual machines cloned from a template. The token (`USER@REALM!TOKENID=UUID`) comes from
/// `PROXMOX_TOKEN`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxmoxSettings {
    /// API endpoint, `https://host:8006`.
    pub endpoint: String,
    /// The node that holds the template and runs the machines.
    pub node: String,
    /// The template's id.
    pub template: u32,
    /// Id range for clones, both ends included.
    pub ids: (u32, u32),
    /// The pool that the machines join.
    #[serde(default)]
    pub pool: Option<String>,
    /// Pinned SHA-256 fingerprint of the API's certificate, `AB:CD:…`.
    #[serde(default)]
    pub fingerprint: Option<String>,
    /// CA certificate (PEM) of the API, if no fingerprint is pinned.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Whether to make full clones instead of linked ones.
    #[serde(default)]
    pub full_clone: bool,
    /// Platform of the machines; `linux/amd64` if unset.
    #[serde(default = "amd64")]
    pub platform: Platform,
}

fn amd64() -> Platform {
    "linux/amd64".into()
}
