//! Runs the `docker` command and interprets its failures. Not responsible for: which commands are run.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::domain::model::{Fault, FaultKind};
use crate::system::environment::Purpose;
use crate::system::process::{CommandError, Printed, output, owned_command};
use crate::system::watch::{SignsOfLife, until_silent};
use crate::system::words::cause;

/// Timeout of a call that an engine answers at once. An engine that hangs is noticed sooner.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Lines of docker that only sum up, or give general advice.
const SUMMARIES: [&str; 4] = ["failed to start containers", "docker run --help", "See 'docker", "Run 'docker"];

/// Why `docker` failed.
#[derive(Debug)]
pub enum DockerError {
    /// The command cannot be started.
    NotRun(std::io::Error),
    /// It did not finish within this time.
    NoAnswer(Duration),
    /// It failed with this error output.
    Refused(String),
}

/// The command.
#[derive(Debug, Clone)]
pub struct DockerCli {
    program: PathBuf,
}

impl Default for DockerCli {
    fn default() -> Self {
        Self::at("docker")
    }
}

impl DockerCli {
    /// Uses another program than the `docker` on the PATH.
    pub fn at(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }

    /// The command with these arguments, not yet started. Its child ends with its handle, and with this process.
    pub fn command(&self, args: &[&str]) -> Command {
        tracing::debug!(?args, "docker");
        let mut command = owned_command(&self.program, Purpose::Engine);
        command.args(args);
        command
    }

    /// Runs the command for at most [`PATIENCE`]; returns its standard output, trimmed.
    ///
    /// # Errors
    /// [`DockerError`].
    pub async fn run(&self, args: &[&str]) -> Result<String, DockerError> {
        self.run_within(PATIENCE, args).await
    }

    /// Like [`DockerCli::run`], with this timeout, for what may take long. An engine that hangs is given up before that:
    /// it is asked for its version meanwhile.
    ///
    /// # Errors
    /// [`DockerError`].
    pub async fn run_within(&self, patience: Duration, args: &[&str]) -> Result<String, DockerError> {
        let command = self.command(args);
        let began = tokio::time::Instant::now();
        let signs = SignsOfLife::default();
        let output = tokio::select! {
            biased;
            output = output(command, patience, Printed::Answer) => output,
            _ = until_silent(&signs, || self.greeted()) => return Err(DockerError::NoAnswer(began.elapsed())),
        };
        match output {
            Ok(printed) => Ok(String::from_utf8_lossy(&printed).trim().to_owned()),
            Err(CommandError::Late(patience)) => Err(DockerError::NoAnswer(patience)),
            Err(CommandError::Unrunnable(error)) => Err(DockerError::NotRun(error)),
            Err(CommandError::Failed { stderr, .. }) => Err(DockerError::Refused(stderr)),
            Err(error @ CommandError::TooLong(_)) => Err(DockerError::Refused(error.to_string())),
        }
    }
}

impl DockerCli {
    /// Asks the engine for its version.
    async fn greeted(&self) -> Result<(), ()> {
        let mut command = self.command(&["version", "--format", "{{.Server.Version}}"]);
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().await;
        if status.is_ok_and(|status| status.success()) { Ok(()) } else { Err(()) }
    }
}

impl DockerError {
    /// Converts it to a fault.
    pub fn fault(self) -> Fault {
        let unavailable = |message: &str| Fault::new(FaultKind::Unavailable, "lian::docker::engine", message);
        match self {
            Self::NotRun(error) if error.kind() == std::io::ErrorKind::NotFound => {
                unavailable("there is no `docker` command").help("install Docker, or use another `compute_provider`")
            }
            Self::NotRun(error) => unavailable(&format!("the `docker` command cannot be run: {error}"))
                .help("check whether `docker info` works"),
            Self::NoAnswer(patience) => {
                let message = format!("the Docker Engine does not answer, after {} s", patience.as_secs());
                Fault::new(FaultKind::Infrastructure, "lian::docker::slow", message)
                    .help("check whether `docker info` answers; restart the engine if it does not")
            }
            Self::Refused(words) => refused(&words),
        }
    }
}

fn refused(words: &str) -> Fault {
    let unavailable = |message: &str| Fault::new(FaultKind::Unavailable, "lian::docker::engine", message);
    let mut fault = if words.contains("permission denied") {
        Fault::denied("lian::docker::engine", "this user has no access to the Docker Engine")
            .help("add the user to the group `docker`, or point DOCKER_HOST at an engine of its own")
    } else if words.contains("Cannot connect to the Docker daemon") || words.contains("there is no engine") {
        unavailable("no Docker Engine answers").help("start Docker, or name an engine in DOCKER_HOST or DOCKER_CONTEXT")
    } else {
        Fault::new(FaultKind::Infrastructure, "lian::docker::failed", "the Docker Engine refused")
            .help("check whether the same works by hand; `docker info` shows the engine's state")
    };
    fault.evidence = Some(reason(words));
    fault
}

/// Whether the error output says that the object does not exist.
pub fn is_missing(words: &str) -> bool {
    words.contains("No such ") || words.contains("no such ")
}

/// Why the engine refused, in its own words.
pub fn reason(words: &str) -> String {
    let told = cause(words, &SUMMARIES).unwrap_or_else(|| "docker ended without a message".to_owned());
    told.trim_start_matches("docker: ").trim_start_matches("Error response from daemon: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(words: &str) -> Fault {
        DockerError::Refused(words.to_owned()).fault()
    }

    #[test]
    fn the_engines_own_reason_is_told_and_not_the_line_that_sums_up() {
        let words = "Error response from daemon: failed to create task for container: OCI runtime create failed: \
                     no such cgroup\nError: failed to start containers: lian-r1-1\n";
        let told = fault(words).evidence.expect("evidence");
        assert_eq!(told, "failed to create task for container: OCI runtime create failed: no such cgroup");
        assert_eq!(reason(""), "docker ended without a message");
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
