//! Interfaces for acquiring, reaching and using a runner. Not responsible for: costs; what is built.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::build::{BuildRequest, BuildSink, Builder};
use super::record::LeaseRecord;
use super::usage::Usage;
use crate::domain::base::{LayerName, LeaseId, Platform, RunId, Timestamp};
use crate::domain::model::{Fault, Offer, Size};

/// A request for a runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcquireRequest {
    /// Chosen by the caller in advance, to find whatever an unanswered request created.
    pub lease: LeaseId,
    /// The requesting run.
    pub run: RunId,
    /// The layer to build on it.
    pub layer: LayerName,
    /// Minimum size.
    pub size: Size,
    /// The platform: exactly one, as in the provider's offers, e.g. `linux/arm64`.
    pub platform: Platform,
    /// Its maximum lifetime. When that ends is for the provider to say, by its own clock.
    pub lifetime: Duration,
    /// The public key that may log in (`ssh-ed25519 AAAA…`), if a service leases for others. Otherwise the provider
    /// creates a key pair and keeps it for the lease's lifetime.
    pub authorized_key: Option<String>,
}

/// A runner's SSH address and its host key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshTarget {
    /// IPv4, IPv6 (without brackets) or a name.
    pub address: String,
    /// sshd's port.
    pub port: u16,
    /// The user who logs in.
    pub user: String,
    /// The only accepted host key, `ssh-ed25519 AAAA…`.
    pub host_key: String,
    /// The private key to log in with; the agent's keys if unset.
    pub identity: Option<PathBuf>,
    /// Whether the user's own ssh configuration counts for it: an alias, the hosts on the way, keys.
    pub is_configured: bool,
}

/// How a runner is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// This machine's own BuildKit daemon.
    Here,
    /// A container on this machine's Docker Engine.
    Container {
        /// Its name.
        name: String,
    },
    /// A host with sshd and buildkitd.
    Ssh(SshTarget),
}

/// A rented runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Its id, as requested.
    pub id: LeaseId,
    /// The granted size; it may be larger than requested.
    pub offer: Offer,
    /// How it is reached.
    pub endpoint: Endpoint,
    /// When a booting runner must be ready; `None` if it runs already.
    pub ready_by: Option<Timestamp>,
}

/// A lease that exists at a provider, from any run or machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedLease {
    /// Its id.
    pub lease: LeaseId,
    /// The requesting run, if the provider knows it.
    pub run: Option<RunId>,
    /// A description for people: `server 42, cax21 in fsn1`.
    pub what: String,
    /// When it was created, by this machine's clock.
    pub created: Option<Timestamp>,
    /// When it must be released, by this machine's clock.
    pub expires: Option<Timestamp>,
}

/// The leases at a provider, as far as it could be asked.
#[derive(Debug, Default)]
pub struct OwnedLeases {
    /// Those that were found.
    pub leases: Vec<OwnedLease>,
    /// Why some may be missing: what could not be listed. A provider that cannot be asked at all has nothing else.
    pub unseen: Vec<Fault>,
}

impl OwnedLeases {
    /// All of them; the first fault if some may be missing.
    pub fn whole(self) -> Result<Vec<OwnedLease>, Fault> {
        match self.unseen.into_iter().next() {
            Some(fault) => Err(fault),
            None => Ok(self.leases),
        }
    }
}

impl From<Result<Vec<OwnedLease>, Fault>> for OwnedLeases {
    fn from(listed: Result<Vec<OwnedLease>, Fault>) -> Self {
        match listed {
            Ok(leases) => Self { leases, unseen: Vec::new() },
            Err(fault) => Self { leases: Vec::new(), unseen: vec![fault] },
        }
    }
}

/// How a lease is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// Something of it was there, and was deleted.
    Deleted,
    /// Nothing of it was there. For another account's credentials that says nothing.
    Absent,
}

/// Acquires and releases runners. Dropping a returned future may leave its request half-done: `release` finds
/// whatever it created, by the record and by the lease's id, and removes it.
#[async_trait]
pub trait ComputeProvider: Send + Sync {
    /// The available sizes, smallest first.
    async fn offers(&self) -> Result<Vec<Offer>, Fault>;

    /// Whether its leases end with the process that holds them, like locks: the next process must acquire them again.
    fn ends_with_process(&self) -> bool {
        false
    }

    /// Acquires a runner. Idempotent by the lease's id. Each id that an answer names goes into the record at once, before
    /// anything that can fail. After an error something may exist: the caller releases it.
    async fn acquire(&self, request: &AcquireRequest, record: &LeaseRecord) -> Result<Lease, Fault>;

    /// Releases a runner and everything created for it, what costs most first: no failure on one thing keeps another
    /// alive. Goes by the record's ids, and an id is gone only when the provider says so of that id; then by name and
    /// marks, for what was created without an answer. Idempotent: succeeds if it is already gone or never existed.
    async fn release(&self, lease: &LeaseId, record: &LeaseRecord) -> Result<Gone, Fault>;

    /// The existing leases with lian-build's mark, from all runs and machines that share the account. What cannot be
    /// listed hides nothing else.
    async fn owned(&self) -> OwnedLeases;

    /// Its runners that are there whether leased or not, and how they are reached: fixed hosts.
    fn hosts(&self) -> Vec<(SshTarget, Offer)> {
        Vec::new()
    }

    /// Who holds its runners now, where leases end with their process: nothing of these is ever left to release.
    async fn holders(&self) -> OwnedLeases {
        OwnedLeases::default()
    }
}

/// A machine whose kernel counts the resources that builds use.
#[async_trait]
pub trait Counters: Send + Sync {
    /// The current counters.
    async fn usage(&self) -> Result<Usage, Fault>;

    /// How often they may be read without slowing a build.
    fn pace(&self) -> Duration {
        Duration::from_millis(500)
    }
}

/// A runner that can build.
#[async_trait]
pub trait Runner: Counters {
    /// Copies the build's context to the runner; does nothing if the build reads it from this machine.
    async fn sync(&self, request: &BuildRequest, sink: &BuildSink<'_>) -> Result<(), Fault>;

    /// Builds on it.
    fn builder(&self) -> Arc<dyn Builder>;
}

/// Connects to runners. Dropping the runner ends the connection.
#[async_trait]
pub trait RunnerConnector: Send + Sync {
    /// Waits until the runner is ready, at most for its boot timeout, and connects to it.
    async fn reach(&self, lease: &Lease) -> Result<Arc<dyn Runner>, Fault>;
}
