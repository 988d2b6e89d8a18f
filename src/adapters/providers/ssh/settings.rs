//! What `providers.ssh` says (`schemas/providers/ssh.ncl`). Not responsible for: whether the hosts are there.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::domain::base::Platform;

/// Fixed hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SshSettings {
    /// The hosts; a lease is an exclusive lock on one.
    pub hosts: Vec<SshHost>,
}

/// A host with sshd, rsync, buildkitd and buildctl.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshHost {
    /// An address or a name.
    pub address: String,
    /// sshd's port.
    #[serde(default = "port")]
    pub port: u16,
    /// Who logs in; buildkitd's socket must be open to it.
    #[serde(default = "root")]
    pub user: String,
    /// The host's public key, `ssh-ed25519 AAAA…`: nothing is trusted on first use.
    pub host_key: String,
    /// The private key to log in with; the agent's keys where unset.
    #[serde(default)]
    pub identity: Option<PathBuf>,
    /// Virtual CPUs.
    pub cpu: u32,
    /// Memory, GB.
    pub memory_gb: u32,
    /// `linux/amd64` and the like.
    pub platform: Platform,
}

fn port() -> u16 {
    22
}

fn root() -> String {
    "root".to_owned()
}
