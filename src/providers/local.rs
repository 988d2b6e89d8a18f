//! This machine as a provider: every lease is granted at once, and there is nothing to give back. Refuses: limits; how
//! wide a run is, is the planner's and the run's business.

use std::sync::Arc;

use async_trait::async_trait;

use crate::base::LeaseId;
use crate::model::Fault;
use crate::ports::{AcquireRequest, Builder, ComputeProvider, Lease, Offer};

/// The one runner that is always there.
#[derive(Clone)]
pub struct Local {
    builder: Arc<dyn Builder>,
    offer: Offer,
}

impl Local {
    /// The provider's name for its only size.
    pub const RUNNER_TYPE: &str = "local";

    /// Grants this builder, on this machine's platform (`linux/amd64`).
    pub fn new(builder: Arc<dyn Builder>, platform: impl Into<String>) -> Self {
        let cpu = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let offer = Offer {
            runner_type: Self::RUNNER_TYPE.to_owned(),
            cpu: u32::try_from(cpu).unwrap_or(u32::MAX),
            memory_gb: memory_gb().unwrap_or(1),
            platform: platform.into(),
        };
        Self { builder, offer }
    }
}

/// The machine's memory, rounded to whole GB.
fn memory_gb() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib: u64 =
        text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim().split(' ').next()?.parse().ok()?;
    u32::try_from((kib * 1024 + 500_000_000) / 1_000_000_000).ok()
}

#[async_trait]
impl ComputeProvider for Local {
    async fn offers(&self) -> Result<Vec<Offer>, Fault> {
        Ok(vec![self.offer.clone()])
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<Lease, Fault> {
        Ok(Lease { id: request.lease.clone(), offer: self.offer.clone(), builder: Arc::clone(&self.builder) })
    }

    async fn release(&self, _lease: &LeaseId) -> Result<(), Fault> {
        Ok(())
    }

    /// None: a lease on this machine ends with the run that held it.
    async fn owned(&self) -> Result<Vec<LeaseId>, Fault> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Digest, LayerName};
    use crate::model::{FaultKind, Size};
    use crate::ports::{BuildRequest, BuildSink, Built, VerifyRequest};

    struct Nothing;

    #[async_trait]
    impl Builder for Nothing {
        async fn build(&self, _: &BuildRequest, _: &BuildSink<'_>) -> Result<Built, Fault> {
            Err(Fault::new(FaultKind::Infrastructure, "lian::test::nothing", "builds nothing"))
        }

        async fn verify(&self, _: &VerifyRequest, _: &BuildSink<'_>) -> Result<Option<Digest>, Fault> {
            Ok(None)
        }
    }

    #[tokio::test]
    async fn grants_whatever_is_asked_under_the_name_it_was_asked() {
        let local = Local::new(Arc::new(Nothing), "linux/arm64");
        let size =
            Size { runner_type: "cax41".into(), cpu: 16, memory_gb: 32, time_budget_min: 30, tier: "explicit".into() };
        let request = AcquireRequest { lease: LeaseId::from("l1"), layer: LayerName::from("rust"), size };
        let lease = local.acquire(&request).await.expect("a lease");
        assert_eq!((lease.id.as_str(), lease.offer.platform.as_str()), ("l1", "linux/arm64"));
        assert!(lease.offer.cpu >= 1 && lease.offer.memory_gb >= 1);
        local.release(&lease.id).await.expect("given back");
        local.release(&lease.id).await.expect("given back twice");
        assert!(local.owned().await.expect("none").is_empty());
    }
}
