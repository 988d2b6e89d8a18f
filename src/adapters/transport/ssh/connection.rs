//! Opens and holds the connection to one runner. Not responsible for: what uses it (see `transport` and `rsync`).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use openssh::Session;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::faults;
use super::master::{self, Master, Refused};
use super::route::route;
use crate::domain::model::Fault;
use crate::domain::ports::SshTarget;
use crate::system::retry::Backoff;
use crate::system::scratch;

/// Maximum bytes of a socket path on Linux, including the final NUL.
const SOCKET_PATH: usize = 108;
/// ssh first binds its control socket under a temporary name: `/m.`, 16 letters and the final NUL.
const SOCKET_NAME: usize = 20;
/// Delays between connection attempts.
const AGAIN: Backoff = Backoff::of_polls(Duration::from_millis(50), Duration::from_millis(500));
/// How long a machine that boots may show another host key than its own.
const KEYS_SETTLE: Duration = Duration::from_secs(20);
/// Delays between looks at an attempt: a connection takes either under 100 ms or much longer.
const LOOKS: Backoff = Backoff::of_polls(Duration::from_millis(4), Duration::from_millis(50)).factor(1.1);

/// A live connection. Dropping it ends everything that uses it.
pub struct SshConnection {
    pub(super) session: Arc<Session>,
    /// Held because dropping it kills the process.
    pub(super) master: Master,
    pub(super) folder: tempfile::TempDir,
    /// The local socket that is forwarded to the runner's daemon.
    pub(super) forwarded: OnceCell<PathBuf>,
    /// `USER@ADDRESS:PORT`.
    pub(super) name: String,
    pub(super) address: String,
}

impl SshConnection {
    /// Connects, with retries while the host is unreachable. The host key is pinned under the name `alias`. A refused
    /// login and another host key are retried for `login` only: a booting machine installs its keys late, a fixed host
    /// does not.
    ///
    /// # Errors
    /// At once: `lian::remote::target` if the target's values are invalid. On timeout: `lian::remote::host_key` if the
    /// host key differs, `lian::remote::login` and `lian::remote::unreachable`.
    pub async fn connect(target: &SshTarget, alias: &str, within: Duration, login: Duration) -> Result<Self, Fault> {
        let name = format!("{}@{}:{}", target.user, target.address, target.port);
        let folder = prepare(target, alias).await?;
        let started = Instant::now();
        let mut again = AGAIN.pauses();
        let mut before = None;
        loop {
            let refused = match attempt(folder.path(), started + within).await {
                Ok((session, master)) => {
                    let (session, address, forwarded) = (Arc::new(session), target.address.clone(), OnceCell::new());
                    return Ok(Self { session, master, folder, forwarded, name, address });
                }
                // The last try is cut short by the time: what an earlier one was told says more.
                Err(Refused::Late) => before.take().unwrap_or(Refused::Late),
                Err(refused) => refused,
            };
            let patience = match &refused {
                // A machine that boots may show its image's key until it has its own, and its address may be answered for
                // by the one that had it before.
                Refused::HostKey => login.min(within).min(KEYS_SETTLE),
                Refused::NoSsh(why) => return Err(faults::no_ssh(why)),
                Refused::Login(_) => login.min(within),
                Refused::NotThere(_) | Refused::Late => within,
            };
            again = again.until(started + patience);
            if !again.poll().await {
                return Err(match refused {
                    Refused::HostKey => faults::wrong_key(&name, login.is_zero()),
                    refused => faults::never_came(&name, &refused, patience, patience < within),
                });
            }
            before = Some(refused);
        }
    }

    /// An `ssh` command over this connection; it fails if the connection is gone.
    pub(super) fn ssh(&self) -> Vec<String> {
        let text = |path: PathBuf| path.display().to_string();
        let folder = self.folder.path();
        let mut args = vec!["ssh".to_owned(), "-F".to_owned(), text(folder.join("config"))];
        args.extend(["-S".to_owned(), text(folder.join("m"))]);
        args.extend(["-a", "-o", "ControlMaster=no", "-o", "ProxyCommand=false"].map(str::to_owned));
        args
    }

    /// Whether the connection is alive.
    pub async fn stands(&self) -> bool {
        self.session.check().await.is_ok()
    }
}

/// A private folder for the files that `ssh` reads. The next process removes it if this one is killed.
async fn prepare(target: &SshTarget, alias: &str) -> Result<tempfile::TempDir, Fault> {
    if let Some(identity) = target.identity.as_ref().filter(|identity| !identity.is_file()) {
        return Err(faults::no_identity(identity));
    }
    let folder = scratch::folder().map_err(|error| faults::here(&error))?;
    if folder.path().as_os_str().len() + SOCKET_NAME > SOCKET_PATH {
        return Err(faults::long_path(folder.path()));
    }
    let unfit = |unfit| faults::no_target(&unfit);
    let route = route(target).await.map_err(unfit)?;
    let config = master::config(target, &route, alias, folder.path()).map_err(unfit)?;
    let write =
        |file: &str, text: String| std::fs::write(folder.path().join(file), text).map_err(|error| faults::here(&error));
    write("known_hosts", format!("{alias} {}\n", target.host_key))?;
    write("config", config)?;
    Ok(folder)
}

async fn attempt(folder: &Path, deadline: Instant) -> Result<(Session, Master), Refused> {
    let socket = folder.join("m");
    let _ = std::fs::remove_file(&socket);
    let mut master = Master::start(folder).map_err(|error| Refused::NoSsh(error.to_string()))?;
    let mut looks = LOOKS.pauses().until(deadline);
    loop {
        if let Some(words) = master.ended().await {
            return Err(master::refused(&words));
        }
        if socket.exists() {
            let session = Session::resume_mux(socket.clone().into(), None);
            if session.check().await.is_ok() {
                return Ok((session, master));
            }
        }
        if !looks.poll().await {
            return Err(Refused::Late);
        }
    }
}
