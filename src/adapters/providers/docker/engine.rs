//! The `docker` command: what it is asked, and what it means when it fails. Not responsible for: knowing what a lease is.

use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;

use super::{PATIENCE, PULL};
use crate::domain::model::{Fault, FaultKind};

/// The engine that the `docker` command reaches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Engine;

/// What the engine's machine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Capacity {
    pub cpu: u32,
    pub memory: u64,
    /// `linux/amd64` and the like.
    pub platform: String,
}

/// `docker info`, as far as we read it. Without an engine it is all zeros and empty words, and exit code 0.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Info {
    #[serde(rename = "NCPU")]
    cpus: u32,
    mem_total: u64,
    #[serde(rename = "OSType")]
    system: String,
    architecture: String,
}

impl Engine {
    /// Runs `docker` to its end; what it printed.
    pub async fn docker(&self, args: &[&str]) -> Result<String, CommandOutput> {
        self.within(PATIENCE, args).await
    }

    async fn within(&self, patience: Duration, args: &[&str]) -> Result<String, CommandOutput> {
        tracing::debug!(?args, "docker");
        let mut command = Command::new("docker");
        command.args(args).stdin(Stdio::null()).kill_on_drop(true).process_group(0);
        let output = match tokio::time::timeout(patience, command.output()).await {
            Err(_) => return Err(CommandOutput::Nothing(patience)),
            Ok(Err(error)) => return Err(CommandOutput::NotHere(error)),
            Ok(Ok(output)) => output,
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(CommandOutput::Words(text(&output.stderr))) }
    }

    /// Asks what there is.
    pub async fn capacity(&self) -> Result<Capacity, Fault> {
        let said = self.docker(&["info", "--format", "{{json .}}"]).await.map_err(CommandOutput::fault)?;
        let info: Info =
            serde_json::from_str(&said).map_err(|error| CommandOutput::Words(error.to_string()).fault())?;
        if info.cpus == 0 {
            return Err(CommandOutput::Words("there is no engine: is the Docker daemon running?".to_owned()).fault());
        }
        if info.system != "linux" {
            let message = format!("the Docker Engine runs {} containers, and BuildKit wants linux", info.system);
            let fault = Fault::new(FaultKind::Unavailable, "lian::docker::system", message);
            return Err(fault.help("switch it to Linux containers, or use another provider"));
        }
        let architecture = match info.architecture.as_str() {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let platform = format!("linux/{architecture}");
        Ok(Capacity { cpu: info.cpus, memory: info.mem_total, platform })
    }

    /// Fetches the image where the engine does not have it.
    pub async fn demand_image(&self, image: &str) -> Result<(), Fault> {
        match self.docker(&["image", "inspect", "--format", "{{.Id}}", image]).await {
            Ok(_) => return Ok(()),
            Err(CommandOutput::Words(words)) if is_missing(&words) => {}
            Err(said) => return Err(said.fault()),
        }
        tracing::info!("the Docker Engine fetches {image}");
        match self.within(PULL, &["pull", "--quiet", image]).await {
            Ok(_) => Ok(()),
            Err(CommandOutput::Words(words)) => {
                let mut fault = Fault::new(
                    FaultKind::Unavailable,
                    "lian::docker::image",
                    format!("the Docker Engine has no image `{image}`, and cannot fetch it"),
                );
                fault.evidence = Some(last_line(&words));
                Err(fault.help(format!(
                    "`docker pull {image}` on a machine that can, then `docker save` and `docker load`; or name another \
                     image with buildkitd in it: `providers.docker_local.image`"
                )))
            }
            Err(said) => Err(said.fault()),
        }
    }
}

/// Why `docker` did not do what it was asked.
#[derive(Debug)]
pub(super) enum CommandOutput {
    /// It cannot be run.
    NotHere(std::io::Error),
    /// It has not ended.
    Nothing(Duration),
    /// It failed, with these words.
    Words(String),
}

impl CommandOutput {
    /// As a fault of the provider.
    pub fn fault(self) -> Fault {
        let unavailable = |message: &str| Fault::new(FaultKind::Unavailable, "lian::docker::engine", message);
        match self {
            Self::NotHere(error) if error.kind() == std::io::ErrorKind::NotFound => {
                unavailable("there is no `docker` command").help("install Docker, or use another `compute_provider`")
            }
            Self::NotHere(error) => unavailable(&format!("the `docker` command cannot be run: {error}"))
                .help("see whether `docker info` works"),
            Self::Nothing(patience) => {
                let message = format!("the Docker Engine does not answer, after {} s", patience.as_secs());
                Fault::new(FaultKind::Infrastructure, "lian::docker::slow", message)
                    .help("see whether `docker info` answers; start the engine anew where it does not")
            }
            Self::Words(words) => {
                let mut fault = if words.contains("permission denied") {
                    Fault::denied("lian::docker::engine", "this user may not speak to the Docker Engine")
                        .help("add the user to the group `docker`, or point DOCKER_HOST at an engine of its own")
                } else if words.contains("Cannot connect to the Docker daemon") || words.contains("there is no engine")
                {
                    unavailable("no Docker Engine answers")
                        .help("start Docker, or name an engine in DOCKER_HOST or DOCKER_CONTEXT")
                } else {
                    Fault::new(FaultKind::Infrastructure, "lian::docker::failed", "the Docker Engine refuses")
                        .help("see whether the same works by hand; `docker info` says how the engine is")
                };
                fault.evidence = Some(last_line(&words));
                fault
            }
        }
    }
}

/// Whether the words say that there is no such thing.
pub(super) fn is_missing(words: &str) -> bool {
    words.contains("No such ") || words.contains("no such ")
}

fn last_line(words: &str) -> String {
    let mut words = words.lines().filter(|line| !line.trim().is_empty() && !line.contains("docker run --help"));
    let last = words.next_back().unwrap_or("docker ended without a word").trim();
    last.trim_start_matches("Error response from daemon: ").trim_start_matches("docker: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(words: &str) -> Fault {
        CommandOutput::Words(words.to_owned()).fault()
    }

    #[test]
    fn what_docker_says_is_understood() {
        let away = fault("Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?");
        assert_eq!((away.kind, away.code.as_str()), (FaultKind::Unavailable, "lian::docker::engine"));
        let denied = fault("permission denied while trying to connect to the Docker daemon socket");
        assert!(denied.help.expect("help").contains("group `docker`"));
        let refused =
            fault("Error response from daemon: driver failed\n\nRun 'docker run --help' for more information\n");
        assert_eq!((refused.kind, refused.evidence.as_deref()), (FaultKind::Infrastructure, Some("driver failed")));
        assert!(
            is_missing("Error: No such object: x") && is_missing("Error response from daemon: No such container: x")
        );
        assert!(!is_missing("Error response from daemon: Conflict."));
    }
}
