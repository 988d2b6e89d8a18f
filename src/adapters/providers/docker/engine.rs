//! The Docker Engine: its capacity and its images. Not responsible for: containers and leases.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use crate::adapters::docker_cli::{DockerCli, DockerError, PATIENCE, is_missing, reason};
use crate::domain::base::{LeaseId, Platform, Timestamp};
use crate::domain::model::{Fault, FaultKind};
use crate::system::RemoteClock;

/// Timeout for pulling an image of about 100 MB over a slow connection.
const PULL: Duration = Duration::from_secs(900);

/// Timeout for removing a container: its volumes may hold gigabytes.
const REMOVE: Duration = Duration::from_secs(600);
/// How long after a creation without an answer its container may still appear.
const LATE: Duration = Duration::from_secs(30);

/// The engine that the `docker` command reaches.
#[derive(Debug, Default)]
pub(super) struct Engine {
    cli: DockerCli,
    clock: RemoteClock,
    /// Creations that may be under way; `settled` waits for them. Each holds until when a container may still appear.
    creations: Mutex<BTreeMap<LeaseId, Arc<tokio::sync::Mutex<Option<Instant>>>>>,
}

/// Capacity of the engine's machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Capacity {
    pub cpu: u32,
    pub memory: u64,
    /// Platform, e.g. `linux/amd64`.
    pub platform: Platform,
}

/// The fields of `docker info` that we use. Without an engine all are zero or empty, with exit code 0.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    #[serde(rename = "NCPU")]
    cpus: u32,
    mem_total: u64,
    #[serde(rename = "OSType")]
    system: String,
    architecture: String,
    /// RFC 3339; not every engine tells it.
    system_time: Option<String>,
}

impl Engine {
    /// Runs `docker` to completion; returns its output.
    pub async fn docker(&self, args: &[&str]) -> Result<String, DockerError> {
        self.cli.run(args).await
    }

    /// Removes containers or other things that take time.
    pub async fn remove(&self, args: &[&str]) -> Result<String, DockerError> {
        self.cli.run_within(REMOVE, args).await
    }

    /// Creates a lease's container. It goes on to its end even if the caller's future is dropped: the engine would create
    /// the container all the same, and nobody would know of it.
    pub async fn create(&self, lease: &LeaseId, args: &[&str]) -> Result<String, DockerError> {
        let mut late = self.creation(lease).lock_owned().await;
        let cli = self.cli.clone();
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let task = tokio::spawn(async move {
            *late = Some(Instant::now() + PATIENCE + LATE);
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let created = cli.run(&args).await;
            *late = matches!(created, Err(DockerError::NoAnswer(_))).then(|| Instant::now() + LATE);
            created
        });
        task.await.unwrap_or_else(|error| Err(DockerError::NotRun(std::io::Error::other(error))))
    }

    /// Waits for a creation that is under way; returns until when a container may still appear, if it was not answered.
    pub async fn settled(&self, lease: &LeaseId) -> Option<Instant> {
        let creation = self.creation(lease);
        let late = *creation.lock().await;
        if late.is_none() {
            self.creations.lock().unwrap_or_else(PoisonError::into_inner).remove(lease);
        }
        late
    }

    fn creation(&self, lease: &LeaseId) -> Arc<tokio::sync::Mutex<Option<Instant>>> {
        Arc::clone(self.creations.lock().unwrap_or_else(PoisonError::into_inner).entry(lease.clone()).or_default())
    }

    /// The engine's clock, in which expiries stand: it may be another machine's, which others use too.
    pub fn clock(&self) -> &RemoteClock {
        &self.clock
    }

    /// Looks at the engine's clock. One that does not tell the time is taken to have ours.
    pub async fn look_at_clock(&self) {
        if let Ok(said) = self.docker(&["info", "--format", "{{.SystemTime}}"]).await {
            self.clock.heard(instant(&said));
        }
    }

    /// Queries the capacity.
    pub async fn capacity(&self) -> Result<Capacity, Fault> {
        let said = self.docker(&["info", "--format", "{{json .}}"]).await.map_err(DockerError::fault)?;
        let info: Info =
            serde_json::from_str(&said).map_err(|error| DockerError::Refused(error.to_string()).fault())?;
        if info.cpus == 0 {
            return Err(DockerError::Refused("there is no engine: is the Docker daemon running?".to_owned()).fault());
        }
        if info.system != "linux" {
            let message = format!("the Docker Engine runs {} containers, and BuildKit needs linux", info.system);
            let fault = Fault::new(FaultKind::Unavailable, "lian::docker::system", message);
            return Err(fault.help("switch it to Linux containers, or use another provider"));
        }
        self.clock.heard(info.system_time.as_deref().and_then(instant));
        let architecture = match info.architecture.as_str() {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let platform = Platform::of("linux", architecture, "");
        Ok(Capacity { cpu: info.cpus, memory: info.mem_total, platform })
    }

    /// Pulls the image if the engine does not have it.
    pub async fn demand_image(&self, image: &str) -> Result<(), Fault> {
        match self.docker(&["image", "inspect", "--format", "{{.Id}}", image]).await {
            Ok(_) => return Ok(()),
            Err(DockerError::Refused(words)) if is_missing(&words) => {}
            Err(said) => return Err(said.fault()),
        }
        tracing::info!("the Docker Engine fetches {image}");
        match self.cli.run_within(PULL, &["pull", "--quiet", image]).await {
            Ok(_) => Ok(()),
            Err(DockerError::Refused(words)) => {
                let mut fault = Fault::new(
                    FaultKind::Unavailable,
                    "lian::docker::image",
                    format!("the Docker Engine has no image `{image}`, and cannot fetch it"),
                );
                fault.evidence = Some(reason(&words));
                Err(fault.help(format!(
                    "`docker pull {image}` on a machine that can, then `docker save` and `docker load`; or name another \
                     image with buildkitd in it: `providers.docker_local.image`"
                )))
            }
            Err(said) => Err(said.fault()),
        }
    }
}

fn instant(text: &str) -> Option<Timestamp> {
    let at = text.trim().parse::<jiff::Timestamp>().ok()?.as_millisecond();
    u64::try_from(at).ok().map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_tells_its_time() {
        assert_eq!(instant("2015-10-21T07:28:00.123456789Z\n"), Some(Timestamp(1_445_412_480_123)));
        assert_eq!(instant("2015-10-21T09:28:00+02:00"), Some(Timestamp(1_445_412_480_000)));
        assert_eq!(instant("<no value>"), None);
    }
}
