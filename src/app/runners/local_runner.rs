//! Runners that are built on from here: buildctl runs on this machine and brings everything to a daemon, this machine's own or
//! one elsewhere. Not responsible for: connecting to them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::adapters::buildkit::{Buildctl, on_runner};
use crate::adapters::runner::RemoteRunner;
use crate::domain::base::Digest;
use crate::domain::model::Fault;
use crate::domain::ports::{BuildRequest, BuildSink, Builder, Built, Counters, Runner, Usage, VerifyRequest};

/// How often a runner without counters is looked at.
const NEVER_MIND: Duration = Duration::from_secs(60);

/// A daemon to which buildctl on this machine brings everything.
pub struct LocalRunner {
    /// Builds there.
    pub builder: Arc<dyn Builder>,
    /// None where steps of several layers are counted together: they say nothing of one layer.
    pub counters: Option<Arc<dyn Counters>>,
}

#[async_trait]
impl Runner for LocalRunner {
    async fn sync(&self, _request: &BuildRequest, _sink: &BuildSink<'_>) -> Result<(), Fault> {
        Ok(())
    }

    fn builder(&self) -> Arc<dyn Builder> {
        Arc::clone(&self.builder)
    }
}

#[async_trait]
impl Counters for LocalRunner {
    async fn usage(&self) -> Result<Usage, Fault> {
        match &self.counters {
            Some(counters) => counters.usage().await,
            None => Ok(Usage::default()),
        }
    }

    fn pace(&self) -> Duration {
        self.counters.as_ref().map_or(NEVER_MIND, |counters| counters.pace())
    }
}

/// Builds on a runner elsewhere, and says of a failure whether the runner was gone.
pub struct TunnelledBuilder {
    /// buildctl here, on the runner's daemon.
    pub inner: Buildctl,
    /// Kept for as long as it is built on.
    pub runner: Arc<RemoteRunner>,
}

impl TunnelledBuilder {
    async fn judged<T>(&self, result: Result<T, Fault>) -> Result<T, Fault> {
        match result {
            Ok(done) => Ok(done),
            Err(fault) => Err(on_runner(self.runner.judge(fault).await)),
        }
    }
}

#[async_trait]
impl Builder for TunnelledBuilder {
    async fn build(&self, request: &BuildRequest, sink: &BuildSink<'_>) -> Result<Built, Fault> {
        let result = self.inner.build(request, sink).await;
        self.judged(result).await
    }

    async fn verify(&self, request: &VerifyRequest) -> Result<Option<Digest>, Fault> {
        let result = self.inner.verify(request).await;
        self.judged(result).await
    }
}
