//! A container as a runner. Not responsible for: creating and removing it.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;

use super::super::contract::{Environment, Problem, Progress, Readiness, Transport};
use super::copy::copy;
use crate::adapters::docker_cli::{DockerCli, DockerError, PATIENCE};
use crate::domain::model::{Fault, FaultKind};
use crate::system::exec::{Exec, Output, Process};
use crate::system::watch::ANSWER;

/// The container's cgroup as seen from inside. Its limit covers the daemon and its steps together.
const CGROUPS: &str = "/sys/fs/cgroup/memory /sys/fs/cgroup";
/// Each read of the counters starts a process of the container engine.
const PACE: Duration = Duration::from_secs(2);

/// A container, by its name.
#[derive(Debug, Clone)]
pub struct ContainerExec {
    docker: DockerCli,
    container: String,
    name: String,
}

impl ContainerExec {
    /// The container of this name.
    pub fn new(docker: DockerCli, container: &str) -> Self {
        Self { docker, container: container.to_owned(), name: format!("the container {container}") }
    }

    /// Copies a program from its PATH to this machine.
    ///
    /// # Errors
    /// The engine's faults.
    pub async fn copy_out(&self, program: &str, to: &Path) -> Result<(), Fault> {
        let find = format!("command -v {program}");
        let path = self.docker.run(&["exec", &self.container, "sh", "-c", &find]).await.map_err(DockerError::fault)?;
        let from = format!("{}:{path}", self.container);
        let copied = self.docker.run(&["cp", "--follow-link", &from, &to.display().to_string()]).await;
        copied.map(drop).map_err(DockerError::fault)
    }

    async fn inspect(&self, format: &str) -> Result<String, DockerError> {
        self.docker.run(&["container", "inspect", "--format", format, &self.container]).await
    }

    async fn with_log(&self, mut fault: Fault) -> Fault {
        if let Ok(log) = self.docker.run(&["logs", "--tail", "12", &self.container]).await {
            fault.log_tail = log.lines().map(str::to_owned).collect();
        }
        fault.help("does the image hold a buildkitd that starts by itself? `providers.docker_local.image` names it")
    }
}

#[async_trait]
impl Exec for ContainerExec {
    async fn start(&self, script: &str) -> Result<Process, Fault> {
        let mut command = self.docker.command(&["exec", "--interactive", &self.container, "sh", "-c", script]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(Process::of(command.spawn().map_err(|error| DockerError::NotRun(error).fault())?))
    }

    async fn start_with_agent(&self, _script: &str) -> Result<Process, Fault> {
        let message = format!("{} cannot be given the ssh agent", self.name);
        Err(Fault::new(FaultKind::Unavailable, "lian::docker::agent", message)
            .help("set `runners.context_transfer = 'session`: then buildctl runs here, beside the agent"))
    }
}

#[async_trait]
impl Transport for ContainerExec {
    fn name(&self) -> &str {
        &self.name
    }

    /// A container belongs to one lease and is removed with it, so it is not shared.
    fn environment(&self) -> Environment {
        let daemon = "unix:///run/buildkit/buildkitd.sock".to_owned();
        Environment { daemon, cgroups: CGROUPS, pace: PACE, shared: false }
    }

    /// Bounded by a timeout, because an engine may hang.
    async fn exec(&self, script: &str, input: &[u8]) -> Result<Output, Fault> {
        let run = async { self.start(script).await?.finish(input).await.map_err(|why| self.lost(&why)) };
        tokio::time::timeout(PATIENCE, run).await.unwrap_or_else(|_| Err(DockerError::NoAnswer(PATIENCE).fault()))
    }

    async fn copy_in(&self, from: &Path, files: &[OsString], to: &str, sent: Progress<'_>) -> Result<(), Fault> {
        let target = format!("{}:{to}", self.container);
        let copied = copy(from, files, self.docker.command(&["cp", "-", &target]), sent).await;
        copied.map_err(|why| {
            let message = format!("{} did not take the whole context", self.name);
            let mut fault = Fault::new(FaultKind::Infrastructure, "lian::docker::copy", message);
            fault.evidence = Some(why);
            fault.help("check whether the engine's disk is full, and whether `docker cp` works by hand")
        })
    }

    async fn daemon_address(&self) -> Result<String, Fault> {
        Ok(format!("docker-container://{}", self.container))
    }

    async fn look(&self) -> Result<Readiness, Fault> {
        let late = || Readiness::NoAnswer(format!("buildctl had no answer within {} s", ANSWER.as_secs()));
        match tokio::time::timeout(ANSWER, self.exec("exec buildctl debug workers >/dev/null", b"")).await {
            Ok(Ok(output)) if output.code == 0 => Ok(Readiness::Ready),
            Ok(Ok(output)) => Ok(Readiness::NoAnswer(output.stderr.trim().to_owned())),
            Ok(Err(fault)) => Err(fault),
            Err(_) => Ok(late()),
        }
    }

    async fn check(&self) -> Result<(), Fault> {
        match self.inspect("{{.State.Running}}").await.map_err(DockerError::fault)?.as_str() {
            "true" => Ok(()),
            state => Err(self.with_log(self.lost(&format!("running: {state}"))).await),
        }
    }

    fn lost(&self, evidence: &str) -> Fault {
        let message = "the container's BuildKit daemon ended by itself";
        let mut fault = Fault::new(FaultKind::Infrastructure, "lian::docker::ended", message);
        fault.evidence = Some(evidence.to_owned());
        fault
    }

    async fn explain(&self, problem: Problem) -> Fault {
        let fault = |code: &str, message: String| Fault::new(FaultKind::Infrastructure, code, message);
        match problem {
            Problem::NotReady(within, missing) => {
                let message = format!("the container's BuildKit daemon is not ready after {} s", within.as_secs());
                let mut fault = fault("lian::docker::boot_timeout", message);
                if let Readiness::NoAnswer(words) = missing {
                    fault.evidence = Some(words);
                }
                self.with_log(fault).await
            }
            Problem::Hangs(within) | Problem::Silent(within) => DockerError::NoAnswer(within).fault(),
            Problem::NoCounters => {
                let message = "the container's memory counters could not be read".to_owned();
                fault("lian::docker::usage", message).help("out-of-memory kills in it are reported as failed builds")
            }
        }
    }

    async fn died_of_memory(&self) -> bool {
        let state = self.inspect("{{.State.Running}} {{.State.OOMKilled}}").await;
        state.is_ok_and(|state| state == "false true")
    }
}
