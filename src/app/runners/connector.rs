//! Reaches runners: this host's daemon, a daemon at an address, a host over SSH. Not responsible for: leasing them (see `provider_context`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::host_probe::Connections;
use super::on_demand::{OnDemand, unavailable};
use super::remote_build_runner::RemoteBuildRunner;
use crate::adapters::buildkit::{self, Binaries, Buildctl, RemoteBuildctl, on_runner};
use crate::adapters::providers::{Container, Login};
use crate::adapters::transport::ssh::{DAEMON_SOCKET, Link, PRIVATE};
use crate::app::config::Config;
use crate::app::images;
use crate::domain::base::Digest;
use crate::domain::model::{ContextTransfer, Fault, FaultClass, FaultKind};
use crate::domain::ports::{
    BuildRequest, BuildSink, Builder, Built, Counters, Endpoint, Lease, Runner, RunnerConnector, SshTarget, Usage,
    VerifyRequest,
};

/// What is late tells so itself, if it can: so much longer is waited.
const GRACE: Duration = Duration::from_secs(5);

/// Reaches whatever a provider grants.
pub struct Connector {
    here: Arc<dyn Builder>,
    connections: Arc<Connections>,
    boot_timeout: Duration,
    login: Login,
    transfer: ContextTransfer,
    project_root: PathBuf,
    binaries: OnceCell<Binaries>,
}

impl Connector {
    /// As the settings say, going on with connections that stand.
    pub fn new(settings: &Config, login: Login, connections: Arc<Connections>) -> Self {
        let runners = &settings.workflow.runners;
        Self {
            here: Arc::new(OnDemand::new(images::http_registries(settings))),
            connections,
            boot_timeout: Duration::from_secs(runners.boot_timeout_s),
            login,
            transfer: runners.context_transfer,
            project_root: settings.project.root().to_owned(),
            binaries: OnceCell::new(),
        }
    }

    async fn binaries(&self) -> Result<&Binaries, Fault> {
        self.binaries.get_or_try_init(|| async { Binaries::find().map_err(|error| unavailable(&error)) }).await
    }

    async fn in_container(&self, lease: &Lease, container: Arc<Container>) -> Result<Arc<dyn Runner>, Fault> {
        container.ready(self.within(lease)).await?;
        let binaries = match self.binaries().await {
            Ok(binaries) => binaries.clone(),
            // Where BuildKit is in a container only, its client is there, too.
            Err(mut missing) => match brought(&container).await {
                Ok(binaries) => binaries,
                Err(error) => {
                    missing.evidence = Some(error.message);
                    return Err(missing);
                }
            },
        };
        let counters = Arc::clone(&container) as Arc<dyn Counters>;
        let builder = Buildctl::new(&binaries, container.address()).with_counters(Arc::clone(&counters));
        Ok(Arc::new(LocalRunner { builder: Arc::new(builder), counters: Some(counters) }))
    }

    /// Connects, waits until it can build, and takes it: all within the boot timeout, whatever hangs there.
    async fn over_ssh(&self, lease: &Lease, target: &SshTarget) -> Result<Arc<dyn Runner>, Fault> {
        let within = self.within(lease);
        let bound = within + GRACE;
        match tokio::time::timeout(bound, self.taken(lease, target, within)).await {
            Ok(reached) => reached,
            Err(_) => Err(hangs(target, bound)),
        }
    }

    /// Adds what the provider advises where its runner does not accept the key.
    fn advised(&self, fault: Fault) -> Fault {
        match self.login.hint {
            Some(hint) if fault.class() == FaultClass::Denied => fault.help(hint),
            _ => fault,
        }
    }

    /// What is left of the time that a runner has to become ready.
    fn within(&self, lease: &Lease) -> Duration {
        let Some(by) = lease.ready_by else { return self.boot_timeout };
        by.since(crate::system::now()).min(self.boot_timeout)
    }

    async fn taken(&self, lease: &Lease, target: &SshTarget, within: Duration) -> Result<Arc<dyn Runner>, Fault> {
        let deadline = Instant::now() + within;
        let left = || deadline.saturating_duration_since(Instant::now());
        let login = self.login.patience.map_or(within, |patience| patience.min(within));
        let link = match self.connections.claim(target).await {
            Some(link) => link,
            None => {
                Link::connect(target, lease.id.as_str(), within, login).await.map_err(|fault| self.advised(fault))?
            }
        };
        let link = Arc::new(link);
        link.ready(left()).await?;
        link.take(left()).await?;
        let socket = link.forward(DAEMON_SOCKET).await?;
        let counters: Arc<dyn Counters> = Arc::clone(&link) as Arc<dyn Counters>;
        let buildctl = Buildctl::new(self.binaries().await?, format!("unix://{}", socket.display()));
        let inner = buildctl.with_counters(Arc::clone(&counters));
        let session = Arc::new(TunnelledBuilder { inner, link: Arc::clone(&link) });
        Ok(match self.transfer {
            ContextTransfer::Session => Arc::new(LocalRunner { builder: session, counters: Some(counters) }),
            ContextTransfer::Rsync => {
                let address = format!("unix://{DAEMON_SOCKET}");
                let there = RemoteBuildctl::new(link.ssh(), &address, PRIVATE, counters);
                Arc::new(RemoteBuildRunner { link, there, session, project_root: self.project_root.clone() })
            }
        })
    }
}

#[async_trait]
impl RunnerConnector for Connector {
    async fn reach(&self, lease: &Lease) -> Result<Arc<dyn Runner>, Fault> {
        match &lease.reach {
            Endpoint::Here => Ok(Arc::new(LocalRunner { builder: Arc::clone(&self.here), counters: None })),
            Endpoint::Container { name } => self.in_container(lease, Arc::new(Container::new(name))).await,
            Endpoint::Ssh(target) => self.over_ssh(lease, target).await,
        }
    }
}

fn hangs(target: &SshTarget, bound: Duration) -> Fault {
    let message = format!("{} lets in and then answers nothing, for {} s", target.address, bound.as_secs());
    Fault::new(FaultKind::Infrastructure, "lian::remote::hangs", message)
        .help("see what its shell and its disk do: `ssh` there and run `true`; a slow boot needs a longer `runners.boot_timeout_s`")
}

/// buildctl out of a container, kept beside those that setup installs.
async fn brought(container: &Container) -> Result<Binaries, Fault> {
    let version = container.version().await?;
    let kept = |error: &dyn std::fmt::Display| {
        Fault::new(FaultKind::Unavailable, "lian::cli::buildctl", format!("buildctl cannot be kept: {error}"))
    };
    let folder = buildkit::tools_folder().ok_or_else(|| kept(&"neither XDG_CACHE_HOME nor HOME is set"))?;
    let folder = folder.join(format!("buildctl-{version}")).join("bin");
    std::fs::create_dir_all(&folder).map_err(|error| kept(&error))?;
    let (file, part) = (folder.join("buildctl"), folder.join(format!(".buildctl-{}", std::process::id())));
    container.copy_out("buildctl", &part).await?;
    std::fs::rename(&part, &file).map_err(|error| kept(&error))?;
    Ok(Binaries { buildctl: file, buildkitd: None })
}

/// A daemon to which buildctl on this machine brings everything: this machine's own, one in a container, or one whose socket
/// is forwarded here.
struct LocalRunner {
    builder: Arc<dyn Builder>,
    /// None where steps of several layers are counted together: they say nothing of one.
    counters: Option<Arc<dyn Counters>>,
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
        self.counters.as_ref().map_or(Duration::from_secs(60), |counters| counters.pace())
    }
}

/// A builder whose failures are looked at twice: what fails while the connection is gone, fails for that.
struct TunnelledBuilder {
    inner: Buildctl,
    link: Arc<Link>,
}

impl TunnelledBuilder {
    async fn judged<T>(&self, result: Result<T, Fault>) -> Result<T, Fault> {
        match result {
            Err(fault) if fault.kind != FaultKind::OutOfMemory && !self.link.stands().await => {
                Err(self.link.gone(&fault.message))
            }
            other => other.map_err(on_runner),
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
