//! A connection to one runner: commands, forwarded sockets. Not responsible for: what they are for.

use std::path::{Path, PathBuf};
use std::time::Duration;

use openssh::{ForwardType, Session, Socket};
use tokio::process::Child;
use tokio::time::Instant;

use super::guard::Guard;
use super::master::{self, Refused, Unfit};
use crate::domain::model::{Fault, FaultClass, FaultKind};
use crate::domain::ports::{Kills, SshTarget};

/// Where a runner has its context: compilers' caches hold absolute paths.
pub const WORKSPACE: &str = "/workspace";
/// A folder of the runner's memory, for what nobody else may read.
pub const PRIVATE: &str = "/run/lian-build";

/// A folder of the runner's disk, for what a build needs and memory may be too small for.
pub const DISK: &str = "/var/lib/lian-build";

/// Paths of sockets end at so many bytes on Linux, with the zero.
const SOCKET_PATH: usize = 108;
/// ssh binds its control socket under a name of its own first: `/m.` and 16 letters, and the zero.
const SOCKET_NAME: usize = 20;

/// The pause between two tries to connect, at most.
const PAUSE: Duration = Duration::from_millis(500);

/// A live connection. Dropping it ends everything that goes over it.
pub struct Link {
    pub(super) session: std::sync::Arc<Session>,
    /// Kept for its end: it is killed when dropped.
    _master: Child,
    folder: tempfile::TempDir,
    name: String,
    pub(super) kills: std::sync::Mutex<Kills>,
    /// What says on the runner that it is in use: it ends with the connection.
    pub(super) guard: tokio::sync::Mutex<Option<Guard>>,
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
    /// A refused login is tried again for `login` only: a machine that boots learns its keys late, a fixed one does not.
    ///
    /// # Errors
    /// `lian::remote::host_key` and `lian::remote::target` at once where the host shows another key, or what is known of it
    /// makes no sense; `lian::remote::login` and `lian::remote::unreachable` when the time is over.
    pub async fn connect(target: &SshTarget, alias: &str, within: Duration, login: Duration) -> Result<Self, Fault> {
        let name = format!("{}@{}:{}", target.user, target.address, target.port);
        let folder = prepare(target, alias)?;
        let started = Instant::now();
        let mut pause = Duration::from_millis(50);
        loop {
            let refused = match attempt(folder.path(), started + within).await {
                Ok((session, master)) => {
                    let (kills, guard) = Default::default();
                    let session = std::sync::Arc::new(session);
                    return Ok(Self { session, _master: master, folder, name, kills, guard });
                }
                Err(refused) => refused,
            };
            let patience = match &refused {
                Refused::HostKey => return Err(wrong_key(&name)),
                Refused::NoSsh(why) => return Err(no_ssh(why)),
                Refused::Login(_) => login.min(within),
                Refused::NotThere(_) => within,
            };
            if started.elapsed() + pause > patience {
                return Err(never_came(&name, &refused, patience, patience < within));
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

    pub(super) fn lost(&self, error: &openssh::Error) -> Fault {
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

/// A private folder with a short name: paths of sockets have a limit.
fn prepare(target: &SshTarget, alias: &str) -> Result<tempfile::TempDir, Fault> {
    if let Some(identity) = target.identity.as_ref().filter(|identity| !identity.is_file()) {
        let message = format!("there is no private key {}", identity.display());
        return Err(Fault::new(FaultKind::Unavailable, "lian::remote::identity", message)
            .help("correct `identity`, or leave it out to use the agent's keys"));
    }
    let folder = tempfile::Builder::new().prefix("lian-").rand_bytes(8).tempdir().map_err(|error| here(&error))?;
    if folder.path().as_os_str().len() + SOCKET_NAME > SOCKET_PATH {
        let message = format!("the paths of sockets in {} would be too long", folder.path().display());
        return Err(Fault::new(FaultKind::Unavailable, "lian::remote::long_path", message)
            .help("set TMPDIR to a folder with a shorter name, e.g. /tmp"));
    }
    let config = master::config(target, alias, folder.path()).map_err(|unfit| no_target(&unfit))?;
    let write = |file: &str, text: String| std::fs::write(folder.path().join(file), text).map_err(|error| here(&error));
    write("known_hosts", format!("{alias} {}\n", target.host_key))?;
    write("config", config)?;
    Ok(folder)
}

async fn attempt(folder: &Path, deadline: Instant) -> Result<(Session, Child), Refused> {
    let socket = folder.join("m");
    let _ = std::fs::remove_file(&socket);
    let mut master = master::start(folder).map_err(|error| Refused::NoSsh(error.to_string()))?;
    let started = Instant::now();
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
        // A connection is there within a tenth of a second, or takes its time.
        let soon = started.elapsed() < Duration::from_secs(1);
        tokio::time::sleep(Duration::from_millis(if soon { 4 } else { 50 })).await;
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

/// Its address, user, key or identity is not what ssh can be told.
fn no_target(unfit: &Unfit) -> Fault {
    let Unfit { what, value } = unfit;
    // Only what can be shown: it may come from elsewhere.
    let shown: String = value.chars().filter(|c| !c.is_control()).take(80).collect();
    Fault::configuration("lian::remote::target", format!("`{shown}` is no {what} of a runner"))
        .help("correct it in the workflow's `providers`, or ask the operator of the pool that named it")
}

fn no_ssh(why: &str) -> Fault {
    Fault::new(FaultKind::Unavailable, "lian::remote::no_ssh", format!("ssh cannot be run here: {why}"))
        .help("install OpenSSH's client on this machine (Debian: apt-get install openssh-client)")
}

fn never_came(name: &str, refused: &Refused, within: Duration, fixed: bool) -> Fault {
    let seconds = within.as_secs();
    let (code, what, evidence) = match refused {
        Refused::Login(words) => ("lian::remote::login", "does not accept the key to log in with", words.clone()),
        Refused::NotThere(words) => ("lian::remote::unreachable", "cannot be reached", words.clone()),
        Refused::HostKey | Refused::NoSsh(_) => ("lian::remote::unreachable", "cannot be reached", String::new()),
    };
    // What boots now may yet let in: another one is tried. What was made long ago says no for good.
    let kind = if fixed { FaultKind::Unavailable } else { FaultKind::Infrastructure };
    let mut fault = Fault::new(kind, code, format!("{name} {what}, after {seconds} s"));
    if fixed && matches!(refused, Refused::Login(_)) {
        fault = fault.with_class(FaultClass::Denied);
    }
    fault.evidence = Some(evidence);
    fault.help(match refused {
        Refused::Login(_) => {
            "authorise the key there (`ssh-copy-id -i KEY.pub`), name another one in `identity`, or add it to the agent"
        }
        _ => "see whether a firewall stands between; a slow boot needs a longer `runners.boot_timeout_s`",
    })
}
