//! Runners that buildctl on this machine uses: it sends everything to a daemon, here or on another machine. Not
//! responsible for: connecting to them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::adapters::buildkit::{Buildctl, on_runner};
use crate::adapters::runner::RemoteRunner;
use crate::domain::base::Digest;
use crate::domain::model::{BuildEvent, Fault};
use crate::domain::ports::{BuildRequest, BuildSink, Builder, Built, Counters, Runner, Usage, VerifyRequest};
use crate::system::watch::SignsOfLife;

/// How often a runner without counters is sampled.
const NEVER_MIND: Duration = Duration::from_secs(60);

/// A daemon to which buildctl on this machine sends everything.
pub struct LocalRunner {
    /// Builds there.
    pub builder: Arc<dyn Builder>,
    /// `None` if steps of several layers are counted together: the counts then say nothing about one layer.
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

/// Builds on a remote runner; on failure, checks whether the runner was lost.
pub struct TunnelledBuilder {
    /// buildctl on this machine, with the runner's daemon.
    pub inner: Buildctl,
    /// Kept open during the build.
    pub runner: Arc<RemoteRunner>,
}

impl TunnelledBuilder {
    /// Ends the work if the runner dies meanwhile, without a word or with one.
    async fn watched<T>(&self, signs: &SignsOfLife, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        tokio::select! {
            biased;
            done = work => match done {
                Ok(done) => Ok(done),
                Err(fault) => Err(on_runner(self.runner.judge(fault).await)),
            },
            fault = self.runner.death(signs) => Err(fault),
        }
    }
}

#[async_trait]
impl Builder for TunnelledBuilder {
    async fn build(&self, request: &BuildRequest, sink: &BuildSink<'_>) -> Result<Built, Fault> {
        let signs = SignsOfLife::default();
        let heard = |event: BuildEvent| {
            signs.heard();
            sink(event);
        };
        self.watched(&signs, self.inner.build(request, &heard)).await
    }

    async fn verify(&self, request: &VerifyRequest) -> Result<Option<Digest>, Fault> {
        self.watched(&SignsOfLife::default(), self.inner.verify(request)).await
    }
}
