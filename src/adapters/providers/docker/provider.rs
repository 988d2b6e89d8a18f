//! The Docker Engine as a provider. Not responsible for: how a container is configured.

use async_trait::async_trait;

use super::container::{self, ContainerRequest};
use super::engine::Engine;
use super::settings::DockerLocalSettings;
use super::{DaemonOptions, offers};
use crate::domain::base::LeaseId;
use crate::domain::model::Fault;
use crate::domain::ports::{AcquireRequest, ComputeProvider, Endpoint, Gone, Lease, LeaseRecord, Offer, OwnedLeases};

/// A Docker Engine, reached through the `docker` command (`DOCKER_HOST`, `DOCKER_CONTEXT`).
#[derive(Debug)]
pub struct Docker {
    engine: Engine,
    settings: DockerLocalSettings,
    inside: DaemonOptions,
}

impl Docker {
    /// Creates the provider; does not contact the engine yet.
    pub fn new(settings: DockerLocalSettings, inside: DaemonOptions) -> Self {
        Self { engine: Engine::default(), settings, inside }
    }
}

#[async_trait]
impl ComputeProvider for Docker {
    async fn offers(&self) -> Result<Vec<Offer>, Fault> {
        Ok(offers::offers(&self.engine.capacity().await?, &self.settings))
    }

    async fn acquire(&self, request: &AcquireRequest, record: &LeaseRecord) -> Result<Lease, Fault> {
        let capacity = self.engine.capacity().await?;
        let offer = offers::smallest(&capacity, &self.settings, request)?;
        self.engine.demand_image(&self.settings.image).await?;
        let container_request = ContainerRequest {
            request,
            offer: &offer,
            capacity: &capacity,
            settings: &self.settings,
            inside: &self.inside,
        };
        let name = container::start(&self.engine, &container_request, record).await?;
        Ok(Lease { id: request.lease.clone(), offer, endpoint: Endpoint::Container { name }, ready_by: None })
    }

    async fn release(&self, lease: &LeaseId, record: &LeaseRecord) -> Result<Gone, Fault> {
        container::remove(&self.engine, lease, record).await
    }

    async fn owned(&self) -> OwnedLeases {
        container::marked(&self.engine).await.into()
    }
}
