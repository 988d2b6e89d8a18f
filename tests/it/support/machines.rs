//! What a fake cloud needs to boot real machines. Not responsible for: knowing any cloud.

use std::net::{IpAddr, Ipv6Addr};

/// A machine that a fake cloud was asked for.
#[derive(Debug, Clone)]
pub struct Order {
    /// Unique among all machines that live.
    pub name: String,
    /// Virtual CPUs.
    pub cpu: u32,
    /// Memory, GB as the cloud sells it; the machines may scale it down.
    pub memory_gb: u32,
    /// Public keys that may log in.
    pub authorized_keys: Vec<String>,
    /// sshd's private key (OpenSSH PEM); the machine makes one where there is none.
    pub host_key: Option<String>,
}

/// A machine that runs.
#[derive(Debug, Clone)]
pub struct Booted {
    /// Where its sshd listens on port 22.
    pub address: IpAddr,
    /// The same by IPv6, where it has one: the first of its network.
    pub ipv6: Option<Ipv6Addr>,
    /// sshd's public key, `ssh-ed25519 AAAA…`.
    pub host_key: String,
}

/// Boots machines and kills them. Blocking.
pub trait Machines: Send + Sync {
    /// Boots one.
    fn boot(&self, order: &Order) -> Booted;

    /// Ends one, by its name; nothing where it is not there.
    fn kill(&self, name: &str);
}
