//! Interface to check whether a fixed host is free. Not responsible for: connecting to it (the transport does).

use async_trait::async_trait;

use crate::domain::ports::SshTarget;

/// Whether a host is free of other machines' leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// The host is free.
    Yes,
    /// Another machine has leased it.
    No,
    /// The host did not answer.
    Unknown,
}

/// Checks whether a host is leased by someone else.
#[async_trait]
pub trait HostProbe: Send + Sync {
    /// The host's availability; returns within seconds.
    async fn of(&self, target: &SshTarget) -> Availability;
}
