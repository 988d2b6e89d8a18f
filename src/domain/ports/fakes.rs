//! Ports for tests that answer at once and remember nothing. Not responsible for: ports that a test is about; it writes
//! these itself.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use super::*;
use crate::domain::base::{LeaseId, Timestamp};
use crate::domain::model::{Fault, Listing, Size};

/// Grants every request as it was asked.
#[derive(Debug, Clone, Copy)]
pub struct Generous;

/// The lease for a request, on this machine.
pub fn granted(request: &AcquireRequest) -> Lease {
    let Size { runner_type, cpu, memory_gb, .. } = request.size.clone();
    let offer = Offer { runner_type, cpu, memory_gb, platform: request.platform.clone(), price: None };
    Lease { id: request.lease.clone(), offer, endpoint: Endpoint::Here, ready_by: None }
}

#[async_trait]
impl ComputeProvider for Generous {
    async fn offers(&self) -> Result<Vec<Offer>, Fault> {
        Ok(Vec::new())
    }

    async fn acquire(&self, request: &AcquireRequest, _: &LeaseRecord) -> Result<Lease, Fault> {
        Ok(granted(request))
    }

    async fn release(&self, _: &LeaseId, _: &LeaseRecord) -> Result<Gone, Fault> {
        Ok(Gone::Absent)
    }

    async fn owned(&self) -> OwnedLeases {
        OwnedLeases::default()
    }
}

/// Reaches a runner that needs no context and builds with this builder.
#[derive(Clone)]
pub struct Reached(pub Arc<dyn Builder>);

#[async_trait]
impl RunnerConnector for Reached {
    async fn reach(&self, _: &Lease) -> Result<Arc<dyn Runner>, Fault> {
        Ok(Arc::new(self.clone()))
    }
}

#[async_trait]
impl Counters for Reached {
    async fn usage(&self) -> Result<Usage, Fault> {
        Ok(Usage::default())
    }
}

#[async_trait]
impl Runner for Reached {
    async fn sync(&self, _: &BuildRequest, _: &BuildSink<'_>) -> Result<(), Fault> {
        Ok(())
    }

    fn builder(&self) -> Arc<dyn Builder> {
        Arc::clone(&self.0)
    }
}

/// Contexts that never change: each is [`samples::listing`].
#[derive(Debug, Clone, Copy)]
pub struct Still;

impl ContextReader for Still {
    fn list(&self, _: &Path, _: &Path, _: &Path) -> Result<Listing, ContextError> {
        Ok(samples::listing())
    }
}

/// A journal that keeps nothing.
#[derive(Debug, Clone, Copy)]
pub struct Forgetful;

impl Journal for Forgetful {
    fn append(&self, _: Timestamp, _: JournalKind, _: &str) -> Result<(), JournalError> {
        Ok(())
    }

    fn lease(&self, _: Timestamp, _: &LeaseId, _: LeaseMark, _: Option<&str>) -> Result<(), JournalError> {
        Ok(())
    }

    fn learned(&self, _: Timestamp, _: &LeaseId, _: &Resource) -> Result<(), JournalError> {
        Ok(())
    }

    fn record(&self, _: &BuildRecord) -> Result<(), JournalError> {
        Ok(())
    }
}
