//! The builder on a BuildKit daemon: one `buildctl` a build. Refuses: starting the daemon (`daemon` does).

use std::path::Path;

use async_trait::async_trait;
use serde::Deserialize;

use super::argv;
use super::binaries::Binaries;
use super::classify::classify;
use super::daemon::Daemon;
use super::image;
use super::solve::{Solver, Unsolved};
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

/// What `--metadata-file` holds.
#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "containerimage.digest")]
    digest: Digest,
}

/// The digest that buildctl wrote.
pub(super) fn digest_in(metadata: &Path) -> Result<Digest, Fault> {
    let read = || serde_json::from_slice::<Metadata>(&std::fs::read(metadata).ok()?).ok();
    read().map(|metadata| metadata.digest).ok_or_else(|| {
        Fault::new(FaultKind::Infrastructure, "lian::buildkit::no_digest", "buildctl told no digest of what it built")
            .help("is this BuildKit v0.13 or newer? `lian-build doctor` shows its version")
    })
}

/// A scratch folder of our own, on the system's temporary file system. What killed processes left is removed.
pub(super) fn scratch() -> Result<tempfile::TempDir, Fault> {
    static SWEEP: std::sync::Once = std::sync::Once::new();
    SWEEP.call_once(|| sweep(&std::env::temp_dir()));
    tempfile::Builder::new().prefix(&format!("{}{}-", scratch_prefix(), std::process::id())).tempdir().map_err(
        |error| {
            let message = format!("no temporary folder could be made in {}: {error}", std::env::temp_dir().display());
            Fault::new(FaultKind::Infrastructure, "lian::buildkit::scratch", message)
                .help("free space there, or point TMPDIR at another folder")
        },
    )
}

/// Names of scratch folders begin so, with the process's number behind it. Numbers mean something only within one
/// namespace: a neighbour's in another one is never taken for dead.
fn scratch_prefix() -> String {
    let namespace = std::fs::read_link("/proc/self/ns/pid").map(|link| link.to_string_lossy().into_owned());
    let number: String = namespace.unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
    format!("lian-build-{number}-")
}

/// Removes the scratch folders of processes that are gone.
fn sweep(folder: &Path) {
    let prefix = scratch_prefix();
    for entry in std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(&prefix).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            // Somebody else's folder refuses, and stays.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// The fault of a solve, its step named.
pub(super) fn fault_of(unsolved: Unsolved) -> Fault {
    match unsolved {
        Unsolved::Failed(failure) => classify(&failure),
        Unsolved::Broken(fault) => fault,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_of_the_dead_go_and_those_of_the_living_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut child = std::process::Command::new("true").spawn().expect("a process");
        let dead = child.id();
        child.wait().expect("it ended");
        let made = |process: u32| {
            let path = folder.path().join(format!("{}{process}-abc", scratch_prefix()));
            std::fs::create_dir(&path).expect("a folder");
            path
        };
        let (gone, own) = (made(dead), made(std::process::id()));
        let other = folder.path().join("lian-build-other");
        std::fs::create_dir(&other).expect("a folder");
        sweep(folder.path());
        assert!(!gone.exists() && own.exists() && other.exists());
    }
}
