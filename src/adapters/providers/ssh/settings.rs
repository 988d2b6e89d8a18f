//! The settings `providers.ssh` (`schemas/providers/ssh.ncl`). Not responsible for: whether the hosts exist.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::domain::base::Platform;
use crate::domain::model::Fault;

/// Settings of the fixed-host provider.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SshSettings {
    /// The hosts; a lease is an exclusive lock on one of them.
    pub hosts: Vec<SshHost>,
}

/// A host with sshd, rsync, buildkitd and buildctl.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshHost {
    /// IP address or host name.
    pub address: String,
    /// sshd's port.
    #[serde(default = "port")]
    pub port: u16,
    /// Login user; needs access to buildkitd's socket.
    #[serde(default = "root")]
    pub user: String,
    /// The host's public key, `ssh-ed25519 AAAA…`. Required: no key is trusted on first use.
    pub host_key: String,
    /// Private key for the login; if unset, the SSH agent's keys.
    #[serde(default)]
    pub identity: Option<PathBuf>,
    /// Virtual CPUs.
    pub cpu: u32,
    /// Memory, GB.
    pub memory_gb: u32,
    /// Platform, e.g. `linux/amd64`.
    pub platform: Platform,
}

impl SshSettings {
    /// Checks that the private keys are there: without one, its host can never be used.
    ///
    /// # Errors
    /// `lian::remote::identity`.
    pub(super) fn check_identities(&self) -> Result<(), Fault> {
        for host in &self.hosts {
            let Some(identity) = &host.identity else { continue };
            if let Err(error) = crate::system::read::open(identity) {
                let message = format!(
                    "the private key {} of the host {} cannot be read: {error}",
                    identity.display(),
                    host.address
                );
                return Err(Fault::configuration("lian::remote::identity", message)
                    .help("correct `identity` in `providers.ssh.hosts`, or leave it out to use the agent's keys"));
            }
        }
        Ok(())
    }
}

fn port() -> u16 {
    22
}

fn root() -> String {
    "root".to_owned()
}
