//! Renting a machine. Refuses: what is done on it.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::build::Builder;
use crate::base::{LayerName, LeaseId};
use crate::model::{Fault, Size};

/// A rentable size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The provider's name for it.
    pub runner_type: String,
    /// Virtual CPUs.
    pub cpu: u32,
    /// Memory, GB.
    pub memory_gb: u32,
    /// `linux/arm64` and the like.
    pub platform: String,
}

/// A wish for a runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcquireRequest {
    /// Chosen by the caller before anything is asked of the provider: the name under which an unanswered request is
    /// found again.
    pub lease: LeaseId,
    /// For this layer.
    pub layer: LayerName,
    /// At least this size.
    pub size: Size,
}

/// A rented runner.
#[derive(Clone)]
pub struct Lease {
    /// Its id, as asked for.
    pub id: LeaseId,
    /// What was granted.
    pub offer: Offer,
    /// Builds on it.
    pub builder: Arc<dyn Builder>,
}

/// Rents machines and takes them back.
#[async_trait]
pub trait ComputeProvider: Send + Sync {
    /// The sizes it has, smallest first.
    async fn offers(&self) -> Result<Vec<Offer>, Fault>;

    /// Rents one. Idempotent by the lease's id.
    async fn acquire(&self, request: &AcquireRequest) -> Result<Lease, Fault>;

    /// Gives one back. Idempotent: what is gone already is given back.
    async fn release(&self, lease: &LeaseId) -> Result<(), Fault>;

    /// The leases that exist and are this project's.
    async fn owned(&self) -> Result<Vec<LeaseId>, Fault>;
}
