//! Uses a connection: scripts, forwarded sockets, copies. Not responsible for: opening the connection.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use openssh::{ForwardType, Session, Socket};

use super::super::contract::{Environment, Problem, Progress, Transport};
use super::connection::SshConnection;
use crate::domain::model::{Fault, FaultKind};
use crate::system::exec::{Exec, Process};
use crate::system::process::owned_command;
use crate::system::shell::quoted;

/// buildkitd's socket on every host.
const DAEMON_SOCKET: &str = "/run/buildkit/buildkitd.sock";

/// The cgroup that counts builds. `/run/lian/cgroup` names it on hosts created for lian-build.
const CGROUPS: &str = "$(cat /run/lian/cgroup 2>/dev/null) /sys/fs/cgroup/lian-build /sys/fs/cgroup/memory/buildkit \
  /sys/fs/cgroup/buildkit /sys/fs/cgroup/memory /sys/fs/cgroup";

/// The script as a command for any login shell. `exec` makes the session's sshd its parent.
fn command_line(script: &str) -> String {
    format!("exec sh -c {}", quoted(script))
}

#[async_trait]
impl Exec for SshConnection {
    async fn start(&self, script: &str) -> Result<Process, Fault> {
        let mut command = Session::to_raw_command(Arc::clone(&self.session), command_line(script));
        command.stdin(openssh::Stdio::piped()).stdout(openssh::Stdio::piped()).stderr(openssh::Stdio::piped());
        let mut child = command.spawn().await.map_err(|error| self.lost(&error.to_string()))?;
        let stdin = child.stdin().take().expect("invariant: standard input is piped");
        let stdout = child.stdout().take().expect("invariant: standard output is piped");
        let stderr = child.stderr().take().expect("invariant: standard error is piped");
        let end = async move {
            match child.wait().await {
                Ok(status) => status.code().ok_or_else(|| status.to_string()),
                // The crate treats exit code 127 as its own error.
                Err(openssh::Error::Remote(error)) if error.kind() == std::io::ErrorKind::NotFound => Ok(127),
                Err(error) => Err(error.to_string()),
            }
        };
        Ok(Process { stdin: Box::new(stdin), stdout: Box::new(stdout), stderr: Box::new(stderr), end: Box::pin(end) })
    }

    /// Forward the agent only to sessions that request it. The crate cannot request it, `ssh` can.
    async fn start_with_agent(&self, script: &str) -> Result<Process, Fault> {
        let ssh = self.ssh();
        let mut command = owned_command(&ssh[0]);
        command.args(&ssh[1..]).args(["-A", "runner", &command_line(script)]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|error| self.lost(&format!("ssh cannot be run: {error}")))?;
        Ok(Process::of(child))
    }
}

#[async_trait]
impl Transport for SshConnection {
    fn name(&self) -> &str {
        &self.name
    }

    /// A host with a long first boot writes a readiness file at the end; the file's folder shows that it will.
    fn environment(&self) -> Environment {
        Environment {
            daemon: format!("unix://{DAEMON_SOCKET}"),
            ready_test: format!("[ -S {DAEMON_SOCKET} ] && {{ [ ! -d /run/lian ] || [ -e /run/lian/ready ]; }}"),
            cgroups: CGROUPS,
            pace: Duration::from_millis(500),
            shared: true,
        }
    }

    /// With rsync: unchanged files are not sent again.
    ///
    /// # Errors
    /// `lian::remote::transfer`, `lian::remote::disk_full`, `lian::remote::no_rsync`, `lian::remote::link_lost`.
    async fn copy_in(&self, from: &Path, files: &[OsString], to: &str, sent: Progress<'_>) -> Result<(), Fault> {
        self.rsync(from, files, to, sent).await
    }

    async fn daemon_address(&self) -> Result<String, Fault> {
        let local = self.folder.path().join("d");
        let (from, to) = (
            Socket::UnixSocket { path: local.clone().into() },
            Socket::UnixSocket { path: PathBuf::from(DAEMON_SOCKET).into() },
        );
        let forwarded = self.session.request_port_forward(ForwardType::Local, from, to).await;
        forwarded.map_err(|error| self.lost(&error.to_string()))?;
        Ok(format!("unix://{}", local.display()))
    }

    async fn check(&self) -> Result<(), Fault> {
        self.session.check().await.map_err(|error| self.lost(&error.to_string()))
    }

    fn lost(&self, evidence: &str) -> Fault {
        let message = format!("the connection to {} was lost", self.name);
        let mut fault = Fault::new(FaultKind::Infrastructure, "lian::remote::link_lost", message);
        fault.evidence = Some(evidence.to_owned());
        fault.help("if this keeps happening, check the network between here and the runner")
    }

    async fn explain(&self, problem: Problem) -> Fault {
        let fault = |code: &str, message: String| Fault::new(FaultKind::Infrastructure, code, message);
        match problem {
            Problem::NotReady(within) => {
                let message = format!("{} has no BuildKit daemon, after {} s", self.name, within.as_secs());
                let mut fault = fault("lian::remote::not_ready", message);
                // The last line of its first boot's log is the most useful.
                let log = self.exec("tail -n 12 /var/log/cloud-init-output.log 2>/dev/null", b"").await;
                fault.log_tail = log.map(|log| log.stdout.lines().map(str::to_owned).collect()).unwrap_or_default();
                fault.help(format!(
                    "start buildkitd there, listening on {DAEMON_SOCKET}, or raise `runners.boot_timeout_s`"
                ))
            }
            Problem::Hangs(within) => {
                let message =
                    format!("{} accepts the login and then does not answer, for {} s", self.address, within.as_secs());
                fault("lian::remote::hangs", message).help(
                    "see what its shell and its disk do: `ssh` there and run `true`; a slow boot needs a longer \
                     `runners.boot_timeout_s`",
                )
            }
            Problem::NoCounters => {
                let message = format!("the memory counters of {} could not be read", self.name);
                fault("lian::remote::usage", message)
                    .help("out-of-memory kills of this runner are reported as failed builds")
            }
        }
    }
}
