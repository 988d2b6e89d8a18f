//! The builder that runs one `buildctl` for each build on a BuildKit daemon. Not responsible for: starting the daemon
//! (`daemon` does).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::argv;
use super::binaries::Binaries;
use super::classify::OomEvidence;
use super::daemon::Daemon;
use super::definition::laid_out;
use super::image;
use super::policy::{FILE, explained, policy};
use super::scratch::{scratch, unwritten};
use super::solve::{Solver, Unsolved, digest_in, fault_of};
use super::verify;
use crate::domain::base::Digest;
use crate::domain::model::{BuildEvent, Fault, FaultKind};
use crate::domain::ports::{
    BuildRequest, BuildSink, Builder, Built, Counters, ImageSource, SecretValue, Usage, VerifyRequest,
};

/// Builds with `buildctl` on one daemon.
#[derive(Clone)]
pub struct Buildctl {
    solver: Solver,
    counters: Option<Arc<dyn Counters>>,
    host_network: bool,
}

impl Buildctl {
    /// A builder on the daemon at this address (`unix:///…`, `tcp://…`).
    pub fn new(binaries: &Binaries, address: impl Into<String>) -> Self {
        let solver = Solver { buildctl: binaries.buildctl.clone(), address: address.into(), variables: Vec::new() };
        Self { solver, counters: None, host_network: false }
    }

    /// Sets the kernel counters of the machine that builds. Without them, nothing that was killed counts as out of
    /// memory.
    #[must_use]
    pub fn with_counters(mut self, counters: Arc<dyn Counters>) -> Self {
        self.counters = Some(counters);
        self
    }

    /// Lets steps use the network of the daemon's machine, where they have one of their own.
    #[must_use]
    pub fn with_host_network(mut self, host_network: bool) -> Self {
        self.host_network = host_network;
        self
    }

    /// A builder on this daemon. The caller must keep the daemon while building: it stops when idle.
    pub fn on(daemon: &Daemon) -> Self {
        Self::new(daemon.binaries(), daemon.address())
    }
}

/// Reads the counters now; `None` if they cannot be read.
pub(super) async fn look(counters: Option<&dyn Counters>) -> Option<Usage> {
    counters?.usage().await.inspect_err(|fault| tracing::debug!("{}", fault.message)).ok()
}

/// How often, and with which pause, a runner is checked after a kill: by then a killed daemon has been restarted.
const LOOKS: u32 = 10;
const BETWEEN_LOOKS: Duration = Duration::from_millis(300);

/// The fault of a failed build, with the evidence of the counters.
pub(super) async fn judged(counters: Option<&dyn Counters>, mut unsolved: Unsolved, before: Option<Usage>) -> Fault {
    if let (Unsolved::Failed(failure), Some(before)) = (&mut unsolved, before) {
        for _ in 0..LOOKS {
            let Some(after) = look(counters).await else { break };
            failure.oom = OomEvidence::between(&before, &after);
            // The kernel killed something. Once a new daemon is running, we know whether it killed the daemon.
            let open = failure.oom == OomEvidence::None && after.kernel_kills > before.kernel_kills;
            if !open || !failure.lost_daemon() {
                break;
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }
    fault_of(unsolved)
}

/// Checks what buildctl would report late or not at all: it takes an unset variable for an empty secret, and creates a
/// layout that does not exist.
pub(super) fn demand_inputs(request: &BuildRequest) -> Result<(), Fault> {
    for secret in &request.secrets {
        let missing = match &secret.value {
            SecretValue::Env(variable) if std::env::var_os(variable).is_none() => {
                Some(format!("the environment variable {variable} is not set"))
            }
            SecretValue::File(path) if !path.is_file() => Some(format!("{} is not a file", path.display())),
            _ => None,
        };
        if let Some(why) = missing {
            let message = format!("the secret `{}` has no value: {why}", secret.id);
            return Err(Fault::new(FaultKind::Missing, "lian::buildkit::missing_secret", message)
                .help("set it, or correct the layer's `secrets`"));
        }
    }
    for context in &request.named_contexts {
        demand_image(&context.name, &context.source)?;
    }
    Ok(())
}

/// Checks that an image in a layout exists, by its manifest.
fn demand_image(name: &str, source: &ImageSource) -> Result<(), Fault> {
    match source {
        ImageSource::Layout { dir, digest } if !image::blob(dir, digest).is_file() => {
            let message = format!("the image `{name}` ({}) is not in {}", digest.short(), dir.display());
            Err(Fault::new(FaultKind::Missing, "lian::buildkit::missing_image", message)
                .help("build it again with `lian-build apply`, or correct `--base-image`"))
        }
        _ => Ok(()),
    }
}

#[async_trait]
impl Builder for Buildctl {
    async fn build(&self, request: &BuildRequest, sink: &BuildSink<'_>) -> Result<Built, Fault> {
        demand_inputs(request)?;
        if request.push.is_none() {
            image::seed(&request.staging, &request.named_contexts);
        }
        let scratch = scratch()?;
        let laid_out = laid_out(request, scratch.path())?;
        let policy = policy(&request.named_contexts, request.frontend.as_deref());
        std::fs::write(scratch.path().join(FILE), policy).map_err(|error| unwritten(scratch.path(), &error))?;
        let mut args = argv::build(&laid_out, scratch.path());
        if self.host_network {
            argv::on_host_network(&mut args);
        }
        let relay = |event: BuildEvent| {
            // BuildKit's internal steps are not steps of the Dockerfile. The bytes that they move are still shown.
            if !matches!(&event, BuildEvent::Vertex { name, .. } if name.starts_with("[internal]")) {
                sink(event);
            }
        };
        let solver = self.solver.with_secrets(&request.secrets);
        let (before, solved) = tokio::join!(look(self.counters.as_deref()), solver.solve(&args, &relay));
        let progress = match solved {
            Ok(progress) => progress,
            Err(unsolved) => {
                return Err(explained(judged(self.counters.as_deref(), unsolved, before).await, request));
            }
        };
        let (steps, cached) = progress.steps();
        Ok(Built {
            digest: digest_in(&scratch.path().join(argv::METADATA))?,
            steps,
            cached,
            platforms: request.platforms.clone(),
        })
    }

    async fn verify(&self, request: &VerifyRequest) -> Result<Option<Digest>, Fault> {
        demand_image("img", &request.image)?;
        verify::verify(&self.solver, request).await
    }
}
