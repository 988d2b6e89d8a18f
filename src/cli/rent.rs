//! Wires a run's provider and its way to reach runners. Refuses: both of their insides.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::exit::Failure;
use super::on_demand::OnDemand;
use super::settings::Settings;
use super::survey::host_platform;
use crate::model::{ComputeProvider as Kind, Fault, FaultKind};
use crate::ports::{BuildRequest, BuildSink, Builder, ComputeProvider, Lease, Reach, Runner, Runners, Usage};
use crate::providers::Local;
use crate::store::Session;

/// Where a run's runners come from and how they are reached.
pub struct Renting {
    /// Rents them.
    pub provider: Arc<dyn ComputeProvider>,
    /// Reaches them.
    pub runners: Arc<dyn Runners>,
    /// None lives longer.
    pub max_lifetime: Duration,
}

impl Renting {
    /// As the settings say.
    pub fn of(settings: &Settings, _session: &Session) -> Result<Self, Failure> {
        let bounds = &settings.workflow.runners;
        let provider: Arc<dyn ComputeProvider> = match settings.workflow.compute_provider {
            Kind::Local => Arc::new(Local::new(host_platform())),
            _ => unreachable!(),
        };
        let here: Arc<dyn Builder> = Arc::new(OnDemand::default());
        let max_lifetime = Duration::from_secs(bounds.max_lifetime_min * 60);
        Ok(Self { provider, runners: Arc::new(Reached { here }), max_lifetime })
    }
}

struct Reached {
    here: Arc<dyn Builder>,
}

#[async_trait]
impl Runners for Reached {
    async fn reach(&self, lease: &Lease) -> Result<Arc<dyn Runner>, Fault> {
        match &lease.reach {
            Reach::Here => Ok(Arc::new(InPlace { builder: Arc::clone(&self.here) })),
            other => Err(Fault::new(FaultKind::Unavailable, "lian::cli::reach", format!("{other:?}"))),
        }
    }
}

/// A runner to which buildctl on this machine brings everything.
struct InPlace {
    builder: Arc<dyn Builder>,
}

#[async_trait]
impl Runner for InPlace {
    async fn sync(&self, _request: &BuildRequest, _sink: &BuildSink<'_>) -> Result<(), Fault> {
        Ok(())
    }

    fn builder(&self) -> Arc<dyn Builder> {
        Arc::clone(&self.builder)
    }

    async fn usage(&self) -> Result<Usage, Fault> {
        Ok(Usage::default())
    }
}
