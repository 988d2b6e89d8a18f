//! A connection to one runner: commands, forwarded sockets. Refuses: what they are for.

use std::path::{Path, PathBuf};
use std::time::Duration;

use openssh::{ForwardType, Session, Socket};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;
use tokio::time::Instant;

use super::master::{self, Refused};
use crate::model::{Fault, FaultKind};
use crate::ports::SshTarget;

/// Where a runner has its context: compilers' caches hold absolute paths.
pub const WORKSPACE: &str = "/workspace";
/// A folder of the runner's memory, for what nobody else may read.
pub const PRIVATE: &str = "/run/lian-build";

/// A runner that hears nothing for so many seconds takes the connection for lost: it ends what was going on over it.
const SILENCE: u64 = 20;
/// How often it hears something.
const BEAT: Duration = Duration::from_secs(4);

/// The pause between two tries to connect, at most.
const PAUSE: Duration = Duration::from_millis(500);

/// A live connection. Dropping it ends everything that goes over it.
pub struct Link {
    session: std::sync::Arc<Session>,
    /// Kept for its end: it is killed when dropped.
    _master: Child,
    folder: tempfile::TempDir,
    name: String,
    pub(super) kills: std::sync::Mutex<super::usage::Kills>,
    /// What says on the runner that it is in use: it ends with the connection.
    guard: tokio::sync::Mutex<Option<Guard>>,
}

/// A process on the runner, and the heartbeat that keeps it alive.
struct Guard {
    _child: openssh::Child<std::sync::Arc<Session>>,
    beat: tokio::task::JoinHandle<()>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.beat.abort();
    }
}

/// What a command on the runner came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Link {
    /// Connects, trying again for as long as nobody answers yet. `alias` is the name under which the host's key is pinned.
    ///
    /// # Errors
    /// `lian::remote::host_key` at once where the host shows another key; `lian::remote::login` and
    /// `lian::remote::unreachable` when the time is over.
    pub async fn connect(target: &SshTarget, alias: &str, within: Duration) -> Result<Self, Fault> {
        let name = format!("{}@{}:{}", target.user, target.address, target.port);
        let folder = prepare(target, alias).map_err(|error| here(&error))?;
        let deadline = Instant::now() + within;
        let mut pause = Duration::from_millis(50);
        loop {
            let refused = match attempt(folder.path(), deadline).await {
                Ok((session, master)) => {
                    let (kills, guard) = Default::default();
                    let session = std::sync::Arc::new(session);
                    return Ok(Self { session, _master: master, folder, name, kills, guard });
                }
                Err(refused) => refused,
            };
            if refused == Refused::HostKey {
                return Err(wrong_key(&name));
            }
            if Instant::now() + pause > deadline {
                return Err(never_came(&name, &refused, within));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE);
        }
    }

    /// Runs a shell command to its end, with nothing on its standard input.
    ///
    /// # Errors
    /// `lian::remote::link_lost` where the connection ends first.
    pub async fn run(&self, script: &str) -> Result<Ran, Fault> {
        let mut command = self.session.shell(script);
        let output = command.stdin(openssh::Stdio::null()).output().await.map_err(|error| self.lost(&error))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Ran { code: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) })
    }

    /// As [`Link::run`], with these bytes on its standard input.
    ///
    /// # Errors
    /// `lian::remote::link_lost` where the connection ends first.
    pub async fn run_with(&self, script: &str, bytes: &[u8]) -> Result<Ran, Fault> {
        let mut command = self.session.shell(script);
        command.stdin(openssh::Stdio::piped()).stdout(openssh::Stdio::piped()).stderr(openssh::Stdio::piped());
        let mut child = command.spawn().await.map_err(|error| self.lost(&error))?;
        if let Some(mut stdin) = child.stdin().take() {
            // Where the command ended early, its exit code says why.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stdin, bytes).await;
        }
        let output = child.wait_with_output().await.map_err(|error| self.lost(&error))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Ran { code: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) })
    }

    /// Takes the runner for this connection alone: nobody else's guard is let in before this one ends.
    ///
    /// # Errors
    /// `lian::remote::busy` where somebody else has it; `lian::remote::link_lost`.
    pub async fn take(&self) -> Result<(), Fault> {
        // What is left of it when the connection ends, however it ends, is nobody's any more.
        let script = format!(
            "exec 9>/run/lian-build.lock && flock -n 9 || exit 1; rm -rf {PRIVATE}; mkdir -p -m 700 {PRIVATE}; \
             echo taken; while [ \"$(timeout {SILENCE} head -c 1 | wc -c)\" = 1 ]; do :; done; \
             rm -rf {PRIVATE}; find {WORKSPACE} -mindepth 1 -delete 2>/dev/null; kill $PPID"
        );
        let mut command = openssh::Session::to_raw_command(std::sync::Arc::clone(&self.session), &script);
        command.stdin(openssh::Stdio::piped()).stdout(openssh::Stdio::piped()).stderr(openssh::Stdio::null());
        let mut child = command.spawn().await.map_err(|error| self.lost(&error))?;
        let mut stdin = child.stdin().take().expect("invariant: standard input is piped");
        let mut answer = String::new();
        if let Some(stdout) = child.stdout().take() {
            let _ = BufReader::new(stdout).read_line(&mut answer).await;
        }
        if answer.trim() != "taken" {
            let message = format!("{} is in use by another lian-build", self.name);
            return Err(Fault::new(FaultKind::Infrastructure, "lian::remote::busy", message)
                .help("wait for the other run, or give the workflow more hosts"));
        }
        let beat = tokio::spawn(async move {
            while tokio::io::AsyncWriteExt::write_all(&mut stdin, b".").await.is_ok() {
                tokio::time::sleep(BEAT).await;
            }
        });
        *self.guard.lock().await = Some(Guard { _child: child, beat });
        Ok(())
    }

    /// A Unix socket on this machine that leads to one on the runner.
    ///
    /// # Errors
    /// `lian::remote::link_lost`.
    pub async fn forward(&self, remote: &str) -> Result<PathBuf, Fault> {
        let local = self.folder.path().join("d");
        let (from, to) = (
            Socket::UnixSocket { path: local.clone().into() },
            Socket::UnixSocket { path: PathBuf::from(remote).into() },
        );
        self.session.request_port_forward(ForwardType::Local, from, to).await.map_err(|error| self.lost(&error))?;
        Ok(local)
    }

    /// Whether the connection still stands.
    pub async fn stands(&self) -> bool {
        self.session.check().await.is_ok()
    }

    /// An `ssh` command over this connection and no other: without it, it fails.
    pub fn ssh(&self) -> Vec<String> {
        let text = |path: PathBuf| path.display().to_string();
        let folder = self.folder.path();
        let mut args = vec!["ssh".to_owned(), "-F".to_owned(), text(folder.join("config"))];
        args.extend(["-S".to_owned(), text(folder.join("m"))]);
        args.extend(["-a", "-o", "ControlMaster=no", "-o", "ProxyCommand=false"].map(str::to_owned));
        args
    }

    /// Who and where, for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn lost(&self, error: &openssh::Error) -> Fault {
        self.gone(&error.to_string())
    }

    /// The fault of a connection that ended, with what showed it.
    pub fn gone(&self, evidence: &str) -> Fault {
        let mut fault = Fault::new(
            FaultKind::Infrastructure,
            "lian::remote::link_lost",
            format!("the connection to {} was lost", self.name),
        );
        fault.evidence = Some(evidence.to_owned());
        fault.help("should it happen again and again, look at the network between here and the runner")
    }
}

/// A private folder with a short name: socket paths end at about 108 bytes.
fn prepare(target: &SshTarget, alias: &str) -> std::io::Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix("lian-").rand_bytes(8).tempdir()?;
    std::fs::write(folder.path().join("known_hosts"), format!("{alias} {}\n", target.host_key))?;
    std::fs::write(folder.path().join("config"), master::config(target, alias, folder.path()))?;
    Ok(folder)
}

async fn attempt(folder: &Path, deadline: Instant) -> Result<(Session, Child), Refused> {
    let socket = folder.join("m");
    let _ = std::fs::remove_file(&socket);
    let mut master = master::start(folder).map_err(|error| Refused::NotThere(format!("ssh cannot be run: {error}")))?;
    let mut pause = Duration::from_millis(5);
    loop {
        if let Ok(Some(_)) = master.try_wait() {
            return Err(master::refused(&master::last_words(&mut master).await));
        }
        if socket.exists() {
            let session = Session::resume_mux(socket.clone().into(), None);
            if session.check().await.is_ok() {
                return Ok((session, master));
            }
        }
        if Instant::now() > deadline {
            return Err(Refused::NotThere("no answer".to_owned()));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

fn here(error: &std::io::Error) -> Fault {
    Fault::new(FaultKind::Unavailable, "lian::remote::here", format!("a private folder cannot be made: {error}"))
        .help("free disk space, or set TMPDIR to a writable folder")
}

fn wrong_key(name: &str) -> Fault {
    let message = format!("{name} shows another host key than the pinned one: nothing was sent to it");
    Fault::new(FaultKind::Unavailable, "lian::remote::host_key", message).help(
        "somebody may stand between here and there, or the machine was made anew: compare its key with what the provider \
         or the workflow says",
    )
}

fn never_came(name: &str, refused: &Refused, within: Duration) -> Fault {
    let seconds = within.as_secs();
    let (code, what, evidence) = match refused {
        Refused::Login(words) => ("lian::remote::login", "does not accept the key to log in with", words.clone()),
        Refused::NotThere(words) => ("lian::remote::unreachable", "cannot be reached", words.clone()),
        Refused::HostKey => ("lian::remote::host_key", "shows another host key", String::new()),
    };
    let mut fault = Fault::new(FaultKind::Infrastructure, code, format!("{name} {what}, after {seconds} s"));
    fault.evidence = Some(evidence);
    fault.help("see whether a firewall stands between; a slow boot needs a longer `runners.boot_timeout_s`")
}
