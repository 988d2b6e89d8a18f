//! The builder that runs one `buildctl` for each build on a BuildKit daemon. Not responsible for: starting the daemon
//! (`daemon` does).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::argv;
use super::binaries::Binaries;
use super::classify::OomEvidence;
use super::daemon::Daemon;
use super::image;
use super::scratch::{full, scratch};
use super::shadow::shadowed;
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
}

impl Buildctl {
    /// A builder on the daemon at this address (`unix:///…`, `tcp://…`).
    pub fn new(binaries: &Binaries, address: impl Into<String>) -> Self {
        let solver = Solver { buildctl: binaries.buildctl.clone(), address: address.into() };
        Self { solver, counters: None }
    }

    /// Sets the kernel counters of the machine that builds. Without them, nothing that was killed counts as out of
    /// memory.
    #[must_use]
    pub fn with_counters(mut self, counters: Arc<dyn Counters>) -> Self {
        self.counters = Some(counters);
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

/// The Dockerfile could not be copied: it cannot be read, or there is no space for the copy.
fn unread(dockerfile: &Path, error: &std::io::Error) -> Fault {
    full(error, &std::env::temp_dir()).unwrap_or_else(|| {
        let message = format!("the Dockerfile cannot be read: {error}");
        let help = format!("check whether {} and its ignore file are readable", dockerfile.display());
        Fault::new(FaultKind::Missing, "lian::buildkit::missing_file", message).help(help)
    })
}

#[async_trait]
impl Builder for Buildctl {
    async fn build(&self, request: &BuildRequest, sink: &BuildSink<'_>) -> Result<Built, Fault> {
        demand_inputs(request)?;
        if request.push.is_none() {
            image::seed(&request.staging, &request.named_contexts);
        }
        let scratch = scratch()?;
        let metadata = scratch.path().join("metadata.json");
        let shadow = shadowed(request, scratch.path()).map_err(|error| unread(&request.dockerfile, &error))?;
        let args = argv::build(shadow.as_ref().unwrap_or(request), &metadata);
        let relay = |event: BuildEvent| {
            // BuildKit's internal steps are not steps of the Dockerfile. The bytes that they move are still shown.
            if !matches!(&event, BuildEvent::Vertex { name, .. } if name.starts_with("[internal]")) {
                sink(event);
            }
        };
        let (before, solved) = tokio::join!(look(self.counters.as_deref()), self.solver.solve(&args, &relay));
        let progress = match solved {
            Ok(progress) => progress,
            Err(unsolved) => return Err(judged(self.counters.as_deref(), unsolved, before).await),
        };
        let (steps, cached) = progress.steps();
        Ok(Built { digest: digest_in(&metadata)?, steps, cached, platforms: request.platforms.clone() })
    }

    async fn verify(&self, request: &VerifyRequest) -> Result<Option<Digest>, Fault> {
        demand_image("img", &request.image)?;
        verify::verify(&self.solver, request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_without_room_is_no_fault_of_the_dockerfile() {
        let dockerfile = Path::new("/p/Dockerfile");
        // A device that is always full.
        let error = std::fs::write("/dev/full", "FROM scratch\n").expect_err("it took something");
        let fault = unread(dockerfile, &error);
        assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Unavailable, "lian::buildkit::disk_full"));
        let fault = unread(dockerfile, &std::io::ErrorKind::PermissionDenied.into());
        assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Missing, "lian::buildkit::missing_file"));
        assert!(fault.help.expect("help").contains("/p/Dockerfile"));
    }
}
