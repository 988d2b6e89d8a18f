//! The builder on a BuildKit daemon: one `buildctl` a build. Refuses: starting the daemon (`daemon` does).

use async_trait::async_trait;

use super::argv;
use super::binaries::Binaries;
use super::daemon::Daemon;
use super::image;
use super::scratch::scratch;
use super::solve::{Solver, digest_in, fault_of};
use super::verify;
use crate::base::Digest;
use crate::model::{BuildEvent, Fault, FaultKind};
use crate::ports::{BuildRequest, BuildSink, Builder, Built, ImageSource, SecretValue, VerifyRequest};

/// Builds with `buildctl` on one daemon.
#[derive(Debug, Clone)]
pub struct Buildctl {
    solver: Solver,
}

impl Buildctl {
    /// On the daemon at this address (`unix:///…`, `tcp://…`).
    pub fn new(binaries: &Binaries, address: impl Into<String>) -> Self {
        Self { solver: Solver { buildctl: binaries.buildctl.clone(), address: address.into() } }
    }

    /// On this daemon. The daemon must be kept for as long as it is built on: it stops when idle.
    pub fn on(daemon: &Daemon) -> Self {
        Self::new(daemon.binaries(), daemon.address())
    }
}

/// What buildctl would only notice late, silently or not at all: it takes an unset variable for an empty secret, and
/// makes a layout that is not there.
fn demand_inputs(request: &BuildRequest) -> Result<(), Fault> {
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

/// An image in a layout must be there: its manifest, at least.
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
        image::seed(&request.staging, &request.named_contexts);
        let scratch = scratch()?;
        let metadata = scratch.path().join("metadata.json");
        let args = argv::build(request, &metadata);
        let relay = |event: BuildEvent| {
            // BuildKit's housekeeping is no step of anybody's Dockerfile; the bytes it moves are still shown.
            if !matches!(&event, BuildEvent::Vertex { name, .. } if name.starts_with("[internal]")) {
                sink(event);
            }
        };
        let progress = self.solver.solve(&args, &relay).await.map_err(fault_of)?;
        let (steps, cached) = progress.steps();
        Ok(Built { digest: digest_in(&metadata)?, steps, cached, platform: request.platform.clone() })
    }

    async fn verify(&self, request: &VerifyRequest, sink: &BuildSink<'_>) -> Result<Option<Digest>, Fault> {
        demand_image("img", &request.image)?;
        verify::verify(&self.solver, request, sink).await
    }
}
