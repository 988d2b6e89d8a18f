//! This machine's own daemon as a builder. Not responsible for: runners elsewhere.

use std::sync::Arc;

use async_trait::async_trait;

use crate::adapters::buildkit::{Buildctl, BuildkitError, Daemon, DaemonConfig, HostCounters};
use crate::domain::base::Digest;
use crate::domain::model::{Classified, Fault, FaultClass, FaultKind};
use crate::domain::ports::{BuildRequest, BuildSink, Builder, Built, VerifyRequest};
use crate::system::error_chain::with_causes;

/// A builder that finds its daemon on first use, and again after losing it. A run that builds nothing uses no daemon.
#[derive(Default)]
pub struct OnDemand {
    http_registries: Vec<String>,
    daemon: tokio::sync::Mutex<Option<Arc<(Daemon, Buildctl)>>>,
}

impl OnDemand {
    /// A builder whose daemon uses plain HTTP for these registries (`host[:port]`).
    pub fn new(http_registries: Vec<String>) -> Self {
        Self { http_registries, ..Self::default() }
    }

    async fn builder(&self) -> Result<Arc<(Daemon, Buildctl)>, Fault> {
        let mut held = self.daemon.lock().await;
        if let Some(daemon) = &*held {
            return Ok(Arc::clone(daemon));
        }
        let mut config = DaemonConfig::from_env().map_err(|error| unavailable(&error))?;
        config.http_registries.clone_from(&self.http_registries);
        let daemon = Daemon::ensure(&config).await.map_err(|error| unavailable(&error))?;
        let mut builder = Buildctl::on(&daemon);
        if config.address.is_none() {
            builder = builder.with_counters(Arc::new(HostCounters::default()));
        }
        let ready = Arc::new((daemon, builder));
        *held = Some(Arc::clone(&ready));
        Ok(ready)
    }

    /// After an infrastructure fault, find the daemon again.
    async fn forget<T>(&self, result: Result<T, Fault>) -> Result<T, Fault> {
        if result.as_ref().is_err_and(|fault| fault.class() == FaultClass::Infrastructure) {
            *self.daemon.lock().await = None;
        }
        result
    }
}

/// The fault of a machine without a daemon. A retry does not help.
pub fn unavailable(error: &BuildkitError) -> Fault {
    let code = miette::Diagnostic::code(error).map_or_else(|| "lian::buildkit::daemon".to_owned(), |c| c.to_string());
    let fault = Fault::new(FaultKind::Unavailable, &code, with_causes(error)).with_class(error.class());
    match miette::Diagnostic::help(error) {
        Some(help) => fault.help(help.to_string()),
        None => fault,
    }
}

#[async_trait]
impl Builder for OnDemand {
    async fn build(&self, request: &BuildRequest, sink: &BuildSink<'_>) -> Result<Built, Fault> {
        let ready = self.builder().await?;
        let result = ready.1.build(request, sink).await;
        self.forget(result).await
    }

    async fn verify(&self, request: &VerifyRequest) -> Result<Option<Digest>, Fault> {
        let ready = self.builder().await?;
        let result = ready.1.verify(request).await;
        self.forget(result).await
    }
}
