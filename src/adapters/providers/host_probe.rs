//! Interface to check whether a fixed host is free and well. Not responsible for: connecting to it (the transport does).

use async_trait::async_trait;

use crate::domain::base::Platform;
use crate::domain::model::Fault;
use crate::domain::ports::{Held, SshTarget};

/// Whether a host can be leased now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Availability {
    /// It is free, and its BuildKit daemon answers.
    Yes,
    /// Another machine has leased it.
    No(Held),
    /// It cannot be used, for this reason.
    Unusable(Box<Fault>),
}

/// Checks whether a host can be leased.
#[async_trait]
pub trait HostProbe: Send + Sync {
    /// The host's availability for builds of the platform that it is there for; returns within seconds.
    async fn of(&self, target: &SshTarget, platform: &Platform) -> Availability;

    /// Who holds the host, if anybody does; answers within seconds.
    ///
    /// # Errors
    /// Why that is not known.
    async fn holder(&self, target: &SshTarget) -> Result<Option<Held>, Fault>;
}
