//! Renting a runner, reaching it and working on it. Not responsible for: who pays, and what is built.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::build::{BuildRequest, BuildSink, Builder};
use super::usage::Usage;
use crate::domain::base::{LayerName, LeaseId, Platform, RunId, Timestamp};
use crate::domain::model::{Fault, Offer, Size};

/// A request for a runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcquireRequest {
    /// Chosen by the caller before the provider is asked: whatever an unanswered request has made is found by it.
    pub lease: LeaseId,
    /// The run that asks.
    pub run: RunId,
    /// The layer that it is for.
    pub layer: LayerName,
    /// At least this size.
    pub size: Size,
    /// Of this platform: exactly one, as the provider's offers say it, e.g. `linux/arm64`.
    pub platform: Platform,
    /// It must not live longer.
    pub expires: Timestamp,
    /// The public key that may log in (`ssh-ed25519 AAAA…`), where a service leases for others. Else the provider makes a
    /// key pair and keeps it for as long as the lease lives.
    pub authorized_key: Option<String>,
}

/// Where a runner's sshd is, and how it proves that it is the one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshTarget {
    /// IPv4, IPv6 (without brackets) or a name.
    pub address: String,
    /// sshd's port.
    pub port: u16,
    /// The user who logs in.
    pub user: String,
    /// The host's public key, `ssh-ed25519 AAAA…`: the only one that is accepted.
    pub host_key: String,
    /// The private key to log in with; the agent's keys where there is none.
    pub identity: Option<PathBuf>,
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
    /// Its id, as asked for.
    pub id: LeaseId,
    /// The size that was granted; it may be larger than what was asked for.
    pub offer: Offer,
    /// How it is reached.
    pub reach: Endpoint,
    /// When a runner that boots for its lease must be ready; none where it runs already.
    pub ready_by: Option<Timestamp>,
}

/// A lease that exists at a provider, whoever asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedLease {
    /// Its id.
    pub lease: LeaseId,
    /// The run that asked, where the provider knows it.
    pub run: Option<RunId>,
    /// A description for people: `server 42, cax21 in fsn1`.
    pub what: String,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// When it must be gone.
    pub expires: Option<Timestamp>,
}

/// Rents runners and takes them back. Dropping a returned future may leave its request half-done: `release` finds whatever
/// it made by the lease's id, and takes it back.
#[async_trait]
pub trait ComputeProvider: Send + Sync {
    /// The sizes it has, smallest first.
    async fn offers(&self) -> Result<Vec<Offer>, Fault>;

    /// Whether its leases end with the process that holds them, as locks do: the next process must acquire them again.
    fn ends_with_process(&self) -> bool {
        false
    }

    /// Rents one. Idempotent by the lease's id. After an error something may exist: the caller releases it.
    async fn acquire(&self, request: &AcquireRequest) -> Result<Lease, Fault>;

    /// Gives one back, with everything that was made for it (servers, keys, addresses). Idempotent: what is gone already,
    /// or never was, counts as given back.
    async fn release(&self, lease: &LeaseId) -> Result<(), Fault>;

    /// The leases that exist and carry lian-build's mark, of every run and machine that shares the account.
    async fn owned(&self) -> Result<Vec<OwnedLease>, Fault>;
}

/// A machine whose kernel counts what builds use.
#[async_trait]
pub trait Counters: Send + Sync {
    /// The counters now.
    async fn usage(&self) -> Result<Usage, Fault>;

    /// How often they may be read without slowing a build.
    fn pace(&self) -> Duration {
        Duration::from_millis(500)
    }
}

/// A runner that can build.
#[async_trait]
pub trait Runner: Counters {
    /// Copies the build's context there; does nothing where the build reads it from here.
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
