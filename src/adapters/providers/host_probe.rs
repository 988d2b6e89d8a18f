//! How a provider of fixed hosts asks whether a host is free. Not responsible for: connecting to it; whoever reaches runners does.

use async_trait::async_trait;

use crate::domain::ports::SshTarget;

/// Whether a host is free of everybody else's lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// It is.
    Yes,
    /// Somebody on another machine has it.
    No,
    /// It does not say.
    Unknown,
}

/// Asks a host whether somebody has it.
#[async_trait]
pub trait HostProbe: Send + Sync {
    /// Its answer, within seconds.
    async fn of(&self, target: &SshTarget) -> Availability;
}
