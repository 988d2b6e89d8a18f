//! Connects to granted runners: this machine's daemon, a container, a host over SSH. Not responsible for: acquiring
//! them (see `provider_context`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tempfile::TempDir;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::connect_options::ConnectOptions;
use super::host_probe::{Connections, OTHER_PLATFORM, REACH};
use super::local_runner::{LocalRunner, TunnelledBuilder};
use super::on_demand::{OnDemand, unavailable};
use super::remote_build_runner::RemoteBuildRunner;
use crate::adapters::buildkit::{Binaries, Buildctl, Daemon, other_platform};
use crate::adapters::docker_cli::DockerCli;
use crate::adapters::runner::RemoteRunner;
use crate::adapters::transport::docker::ContainerExec;
use crate::adapters::transport::ssh::SshConnection;
use crate::domain::base::Platform;
use crate::domain::model::{ContextTransfer, Fault, FaultClass, FaultKind};
use crate::domain::ports::{Builder, Counters, Endpoint, Holder, Lease, Runner, RunnerConnector, SshTarget};
use crate::system::scratch;

/// Connects to runners.
pub struct Connector {
    options: ConnectOptions,
    here: Arc<OnDemand>,
    connections: Arc<Connections>,
    binaries: OnceCell<Binaries>,
    /// buildctl out of a container, in a folder that goes with this.
    fetched: OnceCell<(TempDir, Binaries)>,
}

impl Connector {
    /// With these options; reuses open connections.
    pub fn new(options: ConnectOptions, connections: Arc<Connections>) -> Self {
        let here = Arc::new(OnDemand::new(options.http_registries.clone(), options.host_network));
        Self { options, here, connections, binaries: OnceCell::new(), fetched: OnceCell::new() }
    }

    async fn binaries(&self) -> Result<&Binaries, Fault> {
        self.binaries.get_or_try_init(|| async { Binaries::find().map_err(|error| unavailable(&error)) }).await
    }

    /// The time left for a runner to become ready.
    fn time_left(&self, lease: &Lease) -> Duration {
        let Some(by) = lease.ready_by else { return self.options.boot_timeout };
        by.since(crate::system::now()).min(self.options.boot_timeout)
    }

    /// Who holds the runner of this lease.
    fn holder(&self, lease: &Lease) -> Holder {
        Holder { lease: lease.id.to_string(), ..self.options.holder.clone() }
    }

    /// buildctl runs here: if BuildKit exists in a container only, its client is copied from there.
    async fn in_container(&self, lease: &Lease, name: &str) -> Result<Arc<dyn Runner>, Fault> {
        let container = ContainerExec::new(DockerCli::default(), name);
        let transport = Arc::new(container.clone());
        let runner = RemoteRunner::prepare(transport, &self.holder(lease), self.time_left(lease)).await?;
        let binaries = match self.binaries().await {
            Ok(binaries) => binaries.clone(),
            Err(mut missing) => match self.fetched(&container).await {
                Ok(binaries) => binaries,
                Err(error) => {
                    missing.evidence = Some(error.message);
                    return Err(missing);
                }
            },
        };
        let runner = Arc::new(runner);
        let builder = tunnelled(&runner, &binaries, &lease.offer.platform).await?;
        Ok(Arc::new(LocalRunner { builder, counters: Some(runner) }))
    }

    /// buildctl copied from a container, once. It is this run's only: a workflow names the image that it comes from, and
    /// other projects must not run what that holds.
    async fn fetched(&self, container: &ContainerExec) -> Result<Binaries, Fault> {
        let fetched = self.fetched.get_or_try_init(|| async {
            let kept = |error: std::io::Error| {
                let message = format!("buildctl cannot be kept: {error}");
                Fault::new(FaultKind::Unavailable, "lian::cli::buildctl", message)
            };
            let folder = scratch::folder_in(&self.options.user.join("scratch")).map_err(kept)?;
            let buildctl = folder.path().join("buildctl");
            container.copy_out("buildctl", &buildctl).await?;
            Ok::<_, Fault>((folder, Binaries { buildctl, buildkitd: None }))
        });
        Ok(fetched.await?.1.clone())
    }

    async fn over_ssh(&self, lease: &Lease, target: &SshTarget) -> Result<Arc<dyn Runner>, Fault> {
        let deadline = Instant::now() + self.time_left(lease);
        let connection = Arc::new(self.connected(lease, target).await?);
        let left = deadline.saturating_duration_since(Instant::now());
        let runner = Arc::new(RemoteRunner::prepare(connection, &self.holder(lease), left).await?);
        let session = tunnelled(&runner, self.binaries().await?, &lease.offer.platform).await?;
        Ok(match self.options.context_transfer {
            ContextTransfer::Session => Arc::new(LocalRunner { builder: session, counters: Some(runner) }),
            ContextTransfer::Rsync => {
                Arc::new(RemoteBuildRunner::new(runner, session, self.options.project_root.clone()))
            }
        })
    }

    async fn connected(&self, lease: &Lease, target: &SshTarget) -> Result<SshConnection, Fault> {
        if let Some(connection) = self.connections.claim(target).await {
            return Ok(connection);
        }
        let left = self.time_left(lease);
        let within = if self.connections.is_fixed(target) { left.min(REACH) } else { left };
        let login = self.options.login;
        let patience = login.patience.map_or(within, |patience| patience.min(within));
        let connected = SshConnection::connect(target, lease.id.as_str(), within, patience).await;
        connected.map_err(|fault| match login.hint {
            Some(hint) if fault.class() == FaultClass::Denied => fault.help(hint),
            _ => fault,
        })
    }
}

#[async_trait]
impl RunnerConnector for Connector {
    async fn reach(&self, lease: &Lease) -> Result<Arc<dyn Runner>, Fault> {
        match &lease.endpoint {
            Endpoint::Here => {
                self.here.serves(&lease.offer.platform).await?;
                let builder = Arc::clone(&self.here) as Arc<dyn Builder>;
                Ok(Arc::new(LocalRunner { builder, counters: None }))
            }
            Endpoint::Container { name } => self.in_container(lease, name).await,
            Endpoint::Ssh(target) => self.over_ssh(lease, target).await,
        }
    }
}

/// buildctl on this machine, with the runner's daemon, if that builds for the platform that was leased.
async fn tunnelled(
    runner: &Arc<RemoteRunner>,
    binaries: &Binaries,
    platform: &Platform,
) -> Result<Arc<dyn Builder>, Fault> {
    let address = runner.transport().daemon_address().await?;
    // It was ready a moment ago: what it does not say now, the build tells.
    let platforms = Daemon::platforms_at(binaries, &address).await.unwrap_or_default();
    if let Some(fault) = other_platform(runner.transport().name(), &platforms, platform, OTHER_PLATFORM) {
        return Err(fault);
    }
    let inner = Buildctl::new(binaries, address).with_counters(Arc::clone(runner) as Arc<dyn Counters>);
    Ok(Arc::new(TunnelledBuilder { inner, runner: Arc::clone(runner) }))
}
