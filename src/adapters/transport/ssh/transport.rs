//! Uses a connection: scripts, forwarded sockets, copies. Not responsible for: opening the connection.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use openssh::{ForwardType, Session, Socket};
use tokio::net::UnixStream;

use super::super::contract::{Environment, Problem, Progress, Readiness, Transport};
use super::connection::SshConnection;
use super::faults;
use super::script::{Marked, command_line};
use crate::domain::model::{Fault, FaultClass, FaultKind};
use crate::system::environment::Purpose;
use crate::system::error_chain::with_causes;
use crate::system::exec::{Exec, Process};
use crate::system::http2::greet;
use crate::system::process::owned_command;
use crate::system::watch::ANSWER;

/// buildkitd's socket on every host.
const DAEMON_SOCKET: &str = "/run/buildkit/buildkitd.sock";

/// The cgroup that counts builds. `/run/lian/cgroup` names it on hosts created for lian-build.
const CGROUPS: &str = "$(cat /run/lian/cgroup 2>/dev/null) /sys/fs/cgroup/lian-build \
  /sys/fs/cgroup/memory/lian-build /sys/fs/cgroup/memory/buildkit /sys/fs/cgroup/buildkit /sys/fs/cgroup/memory /sys/fs/cgroup";

/// Says what a host lacks before its daemon can be asked. A machine that lian-build boots says so in its folder until it
/// is `ready`: its daemon may answer before that.
const LOOK: &str = "[ ! -e /run/lian/booting ] || [ -e /run/lian/ready ] || { echo booting; exit; }; \
  s=/run/buildkit/buildkitd.sock; [ -S $s ] || { echo no_socket; exit; }; [ -w $s ] && echo socket || echo denied";

impl SshConnection {
    /// A local socket that leads to the host's daemon.
    async fn forwarded(&self) -> Result<&PathBuf, Fault> {
        let forward = || async {
            let local = self.folder.path().join("d");
            let (from, to) = (
                Socket::UnixSocket { path: local.clone().into() },
                Socket::UnixSocket { path: PathBuf::from(DAEMON_SOCKET).into() },
            );
            let forwarded = self.session.request_port_forward(ForwardType::Local, from, to).await;
            forwarded.map(|()| local).map_err(|error| self.lost(&error.to_string()))
        };
        self.forwarded.get_or_try_init(forward).await
    }

    /// Asks the daemon. A socket file alone may be left of one that is gone.
    async fn greeted(&self) -> Result<Readiness, Fault> {
        let local = self.forwarded().await?;
        let greeting = async { greet(UnixStream::connect(local).await?).await };
        Ok(match tokio::time::timeout(ANSWER, greeting).await {
            Ok(Ok(())) => Readiness::Ready,
            Ok(Err(error)) => {
                // ssh itself knows why no connection came about.
                let words = self.master.words();
                let told = words.lines().rev().find_map(|line| line.split_once("open failed: "));
                Readiness::NoAnswer(told.map_or_else(|| error.to_string(), |(_, why)| why.to_owned()))
            }
            Err(_) => {
                Readiness::NoAnswer(format!("it takes connections and has said nothing for {} s", ANSWER.as_secs()))
            }
        })
    }

    /// The fault of a command that could not be started: the connection is lost, or sshd refuses one more session.
    fn not_started(&self, error: &openssh::Error) -> Fault {
        let words = with_causes(error);
        if words.contains("open refused") || words.contains("open failed") {
            return faults::no_session(&self.name, &words);
        }
        self.lost(&words)
    }

    async fn not_ready(&self, within: Duration, missing: Readiness) -> Fault {
        let fault = |code: &str, what: &str| {
            let after = if within.is_zero() { String::new() } else { format!(", after {} s", within.as_secs()) };
            let message = format!("{} {what}{after}", self.name);
            Fault::new(FaultKind::Infrastructure, code, message)
        };
        let start = format!("start buildkitd there, listening on {DAEMON_SOCKET} (systemctl start buildkit)");
        match missing {
            Readiness::NoSocket => {
                let what = format!("has no BuildKit daemon: there is no socket {DAEMON_SOCKET}");
                let mut fault = fault("lian::remote::no_socket", &what);
                fault.log_tail = self.boot_log().await;
                fault.help(start)
            }
            Readiness::Denied => fault("lian::remote::no_access", "does not let its user open BuildKit's socket")
                .with_class(FaultClass::Denied)
                .help(format!(
                    "log in as root, or give the user the group of {DAEMON_SOCKET} (`[grpc] gid` in buildkitd.toml)"
                )),
            Readiness::NoAnswer(seen) => {
                let mut fault = fault("lian::remote::no_answer", "has a BuildKit socket, and no daemon answers on it");
                let refused = seen.contains("prohibited");
                fault.evidence = Some(seen);
                fault.help(if refused {
                    "set `AllowStreamLocalForwarding yes` in its sshd_config, and reload sshd"
                } else {
                    "start buildkitd anew there (systemctl restart buildkit)"
                })
            }
            Readiness::NoShell(instead) => faults::no_shell(&self.name, &instead),
            Readiness::Booting | Readiness::Ready => {
                let mut fault = fault("lian::remote::not_ready", "is not ready: its first boot has not ended");
                // The last line of its first boot's log is the most useful.
                fault.log_tail = self.boot_log().await;
                fault.help("a slow boot needs a longer `runners.boot_timeout_s`")
            }
        }
    }

    async fn boot_log(&self) -> Vec<String> {
        let log = self.exec("tail -n 12 /var/log/cloud-init-output.log 2>/dev/null", b"").await;
        log.map(|log| log.stdout.lines().map(str::to_owned).collect()).unwrap_or_default()
    }
}

#[async_trait]
impl Exec for SshConnection {
    async fn start(&self, script: &str) -> Result<Process, Fault> {
        let mut command = Session::to_raw_command(Arc::clone(&self.session), command_line(script));
        command.stdin(openssh::Stdio::piped()).stdout(openssh::Stdio::piped()).stderr(openssh::Stdio::piped());
        let mut child = command.spawn().await.map_err(|error| self.not_started(&error))?;
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
        let stdout = Box::new(Marked::new(stdout));
        Ok(Process { stdin: Box::new(stdin), stdout, stderr: Box::new(stderr), end: Box::pin(end) })
    }

    /// Forward the agent only to sessions that request it. The crate cannot request it, `ssh` can.
    async fn start_with_agent(&self, script: &str) -> Result<Process, Fault> {
        let ssh = self.ssh();
        let mut command = owned_command(&ssh[0], Purpose::Ssh);
        command.args(&ssh[1..]).args(["-A", "runner", &command_line(script)]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|error| self.lost(&format!("ssh cannot be run: {error}")))?;
        let process = Process::of(child);
        Ok(Process { stdout: Box::new(Marked::new(process.stdout)), ..process })
    }
}

#[async_trait]
impl Transport for SshConnection {
    fn name(&self) -> &str {
        &self.name
    }

    fn environment(&self) -> Environment {
        Environment {
            daemon: format!("unix://{DAEMON_SOCKET}"),
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
        Ok(format!("unix://{}", self.forwarded().await?.display()))
    }

    async fn look(&self) -> Result<Readiness, Fault> {
        let output = self.exec(LOOK, b"").await?;
        match output.stdout.trim() {
            "booting" => Ok(Readiness::Booting),
            "no_socket" => Ok(Readiness::NoSocket),
            "denied" => Ok(Readiness::Denied),
            "socket" => self.greeted().await,
            // What cannot begin says so on the other stream.
            "" => Ok(Readiness::NoShell(format!("{} (exit code {})", output.stderr.trim(), output.code))),
            instead => Ok(Readiness::NoShell(instead.to_owned())),
        }
    }

    async fn ask_daemon(&self) -> Result<Readiness, Fault> {
        self.greeted().await
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
            Problem::NotReady(within, missing) => self.not_ready(within, missing).await,
            Problem::Hangs(within) => {
                let message =
                    format!("{} accepts the login and then does not answer, for {} s", self.address, within.as_secs());
                fault("lian::remote::hangs", message).help(
                    "see what its shell and its disk do: `ssh` there and run `true`; a slow boot needs a longer \
                     `runners.boot_timeout_s`",
                )
            }
            Problem::Silent(within) => self.lost(&format!("nothing was heard for {} s", within.as_secs())),
            Problem::NoCounters => {
                let message = format!("the memory counters of {} could not be read", self.name);
                fault("lian::remote::usage", message)
                    .help("out-of-memory kills of this runner are reported as failed builds")
            }
        }
    }
}
