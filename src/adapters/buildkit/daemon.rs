//! Finds, starts and shares our own daemon, one per user. Neither a pid file nor a socket proves that a daemon is
//! running: only an answer does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use super::binaries::{Binaries, on_path};
use super::config::DaemonConfig;
use super::error::BuildkitError;
use super::network::{Network, Shared};
use super::supervise;
use crate::domain::base::Platform;
use crate::system::environment::{self, Purpose};
use crate::system::lock;
use crate::system::process::{CommandError, CommandExt as _, Printed, output};
use crate::system::retry::Backoff;

/// How long a daemon may take to answer after it was started.
const READY: Duration = Duration::from_secs(30);
/// How long a running daemon may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// The label by which a worker says which network its steps get.
const NETWORK: &str = "org.mobyproject.buildkit.worker.network";
/// How long a daemon may take to end.
const ENDS: Duration = Duration::from_secs(10);
/// The log is started afresh if it is larger than this, in bytes.
const LOG_BYTES: u64 = 10_000_000;

/// A daemon that answers. Keep it while it is used: our own daemon stops some time after the last one is dropped.
#[derive(Debug)]
pub struct Daemon {
    binaries: Binaries,
    address: String,
    platforms: Vec<Platform>,
    platform: Platform,
    shared: Option<Shared>,
    /// Our share of the users' lock; `None` for a daemon that is not our own.
    _share: Option<File>,
}

/// What `doctor` shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its address, also if it does not run.
    pub address: String,
    /// Whether it is our own.
    pub own: bool,
    /// Whether it answers.
    pub running: bool,
    /// Why a daemon of our own that is there, or may be, does not answer.
    pub silent: Option<String>,
    /// Why its steps share its machine's network, or would if it started now; `None` if they do not.
    pub shared: Option<Shared>,
    /// The platforms it builds for, its own platform first.
    pub platforms: Vec<Platform>,
    /// The log file of our own daemon.
    pub log: PathBuf,
}

#[derive(Deserialize)]
struct Worker {
    #[serde(default)]
    platforms: Vec<WorkerPlatform>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// What a daemon says of itself.
struct Answer {
    platforms: Vec<Platform>,
    /// Whether its steps use its machine's network.
    shares_network: bool,
}

#[derive(Deserialize)]
struct WorkerPlatform {
    os: String,
    architecture: String,
    #[serde(default)]
    variant: String,
}

impl Daemon {
    /// The daemon of this configuration. Our own daemon is started if none answers; two callers at the same time start
    /// only one.
    ///
    /// # Errors
    /// Every [`BuildkitError`] of starting a daemon.
    pub async fn ensure(config: &DaemonConfig) -> Result<Self, BuildkitError> {
        let binaries = Binaries::find()?;
        Self::ensure_with(config, binaries).await
    }

    /// [`Daemon::ensure`] with these binaries.
    ///
    /// # Errors
    /// As [`Daemon::ensure`].
    pub async fn ensure_with(config: &DaemonConfig, binaries: Binaries) -> Result<Self, BuildkitError> {
        if let Some(address) = &config.address {
            let answer = ask(&binaries, address, ANSWER).await;
            let answer = answer.map_err(|what| BuildkitError::Unreachable { address: address.clone(), what })?;
            let (address, platforms) = (address.clone(), answer.platforms);
            let platform = own_platform(&platforms);
            return Ok(Self { binaries, address, platforms, platform, shared: None, _share: None });
        }
        make_folders(config)?;
        let share = open_lock(&config.users_lock())?;
        // Only a supervisor that is stopping its daemon holds the lock against us. It ends soon.
        until(Instant::now() + READY, || lock::try_shared(&share)).await.map_err(|what| died(config, what))?;
        let address = format!("unix://{}", config.socket().display());
        let answer = match alive(config, &binaries, &address).await {
            Some(answer) => answer,
            None => start(config, &binaries, &address).await?,
        };
        let shared = answer.shares_network.then(|| Shared::of_running(&config.folder));
        let (platform, platforms) = (own_platform(&answer.platforms), answer.platforms);
        Ok(Self { binaries, address, platforms, platform, shared, _share: Some(share) })
    }

    /// The address at which it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The platform it builds for by default, such as `linux/amd64`.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// All platforms that it says it builds for.
    pub fn platforms(&self) -> &[Platform] {
        &self.platforms
    }

    /// Why steps share this machine's network; `None` if they have their own, or the daemon is not ours.
    pub fn shared(&self) -> Option<&Shared> {
        self.shared.as_ref()
    }

    /// BuildKit's programs.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// Whether the daemon of this configuration runs. This never starts one.
    ///
    /// # Errors
    /// [`BuildkitError::NotFound`] if there is no buildctl.
    pub async fn status(config: &DaemonConfig) -> Result<Status, BuildkitError> {
        let binaries = Binaries::find()?;
        let own = config.address.is_none();
        let address = config.address.clone().unwrap_or_else(|| format!("unix://{}", config.socket().display()));
        let answer = ask(&binaries, &address, Duration::from_secs(2)).await;
        let silent = |why: &String| match supervisor(config) {
            Ok(Supervisor::Absent) => None,
            Ok(Supervisor::Starting) => Some(format!("it is being started: {why}")),
            Ok(Supervisor::Runs(pid)) => Some(format!("its supervisor (process {pid}) runs, and it is silent: {why}")),
            Err(error) => Some(format!("whether it runs is not known: {}", whole(&error))),
        };
        let shared = match (&answer, own) {
            (Ok(answer), _) if !answer.shares_network => None,
            (Ok(_), true) => Some(Shared::of_running(&config.folder)),
            (Ok(_), false) => Some(Shared::of_another()),
            (Err(_), true) => Network::here(&config.folder, binaries.buildkitd.as_deref()).shared(),
            (Err(_), false) => None,
        };
        Ok(Status {
            running: answer.is_ok(),
            silent: answer.as_ref().err().filter(|_| own).and_then(silent),
            shared,
            platforms: answer.map(|answer| answer.platforms).unwrap_or_default(),
            log: config.log(),
            address,
            own,
        })
    }

    /// Whether a daemon can be had here: one is named or runs, or this user may start one. Starts none, and asks none.
    ///
    /// # Errors
    /// What is missing first.
    pub fn can_be_had(config: &DaemonConfig) -> Result<(), BuildkitError> {
        // Whoever names a daemon wants that one, and nothing else.
        if config.address.is_some() || config.socket().exists() {
            return Ok(());
        }
        may_start(&Binaries::find()?).map(drop)
    }

    /// The platforms that the daemon at an address builds for.
    ///
    /// # Errors
    /// What buildctl said.
    pub async fn platforms_at(binaries: &Binaries, address: &str) -> Result<Vec<Platform>, String> {
        ask(binaries, address, ANSWER).await.map(|answer| answer.platforms)
    }

    /// The version of the daemon at an address, as buildctl tells it.
    ///
    /// # Errors
    /// What buildctl said.
    pub async fn version_at(binaries: &Binaries, address: &str) -> Result<String, String> {
        let mut command = binaries.client();
        command.args(["--addr", address, "--timeout", "5", "debug", "info"]);
        let printed = output(command, ANSWER, Printed::Answer).await.map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&printed).into_owned();
        // `BuildKit: github.com/moby/buildkit v0.32.2 …`; a daemon before 0.11 does not say.
        let version = text.lines().find_map(|line| line.strip_prefix("BuildKit:")?.split_whitespace().nth(1));
        Ok(version.map_or_else(String::new, str::to_owned))
    }

    /// Stops our own daemon, even if it is in use. Returns whether one was running.
    ///
    /// # Errors
    /// [`BuildkitError::DaemonFailed`] if it does not end in time; [`BuildkitError::Io`] if it is not known whether it
    /// runs.
    pub async fn stop(config: &DaemonConfig) -> Result<bool, BuildkitError> {
        if supervisor(config)? == Supervisor::Absent {
            return Ok(false);
        }
        // The daemon is asked, and once: it takes a third word for an order to leave all as it is. Its supervisor then clears
        // up, and its lock is free once it has ended. One that is just starting is asked as soon as it is there.
        let mut asked = BTreeSet::new();
        let gone = || {
            let found = supervisor(config).map_err(std::io::Error::other)?;
            if let Supervisor::Runs(pid) = found {
                for daemon in supervise::children(pid) {
                    if asked.insert(daemon.as_raw_nonzero()) {
                        let _ = kill_process(daemon, Signal::TERM);
                    }
                }
            }
            Ok(found == Supervisor::Absent && !config.socket().exists())
        };
        let waited = until(Instant::now() + Duration::from_secs(15), gone).await;
        waited.map(|()| true).map_err(|_| died(config, "does not stop".to_owned()))
    }
}

/// Asks which platforms it builds for, and on which network. Only an answer proves that a daemon is there and that we understand it.
async fn ask(binaries: &Binaries, address: &str, within: Duration) -> Result<Answer, String> {
    let mut command = binaries.client();
    command.args(["--addr", address, "--timeout", "5", "debug", "workers", "--format", "{{json .}}"]);
    let printed = output(command, within, Printed::List).await.map_err(|error| match error {
        CommandError::Unrunnable(error) => format!("{}: {error}", binaries.buildctl.display()),
        CommandError::Late(within) => format!("no answer within {} s", within.as_secs()),
        CommandError::Failed { stderr, .. } => stderr.trim_start_matches("error: ").to_owned(),
        error @ CommandError::TooLong(_) => format!("{}: {error}", binaries.buildctl.display()),
    })?;
    let workers: Vec<Worker> =
        serde_json::from_slice(&printed).map_err(|error| format!("its answer could not be parsed: {error}"))?;
    let shares_network = workers.iter().any(|worker| worker.labels.get(NETWORK).is_some_and(|mode| mode == "host"));
    let platforms = workers.into_iter().flat_map(|worker| worker.platforms);
    let platform = |platform: WorkerPlatform| Platform::of(&platform.os, &platform.architecture, &platform.variant);
    Ok(Answer { platforms: platforms.map(platform).collect(), shares_network })
}

fn own_platform(platforms: &[Platform]) -> Platform {
    platforms.first().cloned().unwrap_or_else(|| Platform::new("linux/amd64"))
}

async fn alive(config: &DaemonConfig, binaries: &Binaries, address: &str) -> Option<Answer> {
    if !config.socket().exists() {
        return None;
    }
    ask(binaries, address, ANSWER).await.ok()
}

/// Whether this user may start a daemon of its own here; the daemon's program.
fn may_start(binaries: &Binaries) -> Result<&Path, BuildkitError> {
    let buildkitd = binaries.daemon()?;
    let uid = rustix::process::geteuid();
    if !uid.is_root() {
        return Err(BuildkitError::NotRoot { uid: uid.as_raw() });
    }
    if on_path("runc").or_else(|| on_path("buildkit-runc")).is_none() {
        return Err(BuildkitError::NoRunc);
    }
    Ok(buildkitd)
}

/// Starts a daemon under a supervisor, or waits for the one that another process has just started.
async fn start(config: &DaemonConfig, binaries: &Binaries, address: &str) -> Result<Answer, BuildkitError> {
    let buildkitd = may_start(binaries)?;
    let began = Instant::now();
    let deadline = began + READY;
    let starting = open_lock(&config.start_lock())?;
    until(deadline, || lock::try_exclusive(&starting)).await.map_err(|what| died(config, what))?;
    if let Some(answer) = alive(config, binaries, address).await {
        return Ok(answer);
    }
    let mut child: Option<Child> = None;
    let mut network = Network::here(&config.folder, Some(buildkitd));
    let mut polls = Backoff::of_polls(Duration::from_millis(20), Duration::from_millis(250)).factor(1.5).pauses();
    loop {
        // A running supervisor may have a daemon that is about to answer, or may be about to end because its daemon has
        // ended. Either a daemon answers in the end, or there is none and we start it.
        // A daemon that has lost its supervisor is ending, too.
        let is_over = || root_is_free(config) || began.elapsed() > ENDS;
        if child.is_none() && supervisor(config)? == Supervisor::Absent && is_over() {
            child = Some(spawn(config, buildkitd, &network)?);
        }
        polls.poll().await;
        if let Some(answer) = alive(config, binaries, address).await {
            return Ok(answer);
        }
        if let Some(status) = child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
            // A kernel or a container may lack what a network takes: this alone tells it.
            let of_cni = |line: &str| line.contains("CNI") || line.contains("cni");
            if matches!(network, Network::Own(_)) && log_tail(&config.log()).lines().last().is_some_and(of_cni) {
                (network, child) = (Network::Shared(Shared::after_a_try(&config.log())), None);
                continue;
            }
            return Err(died(config, format!("exited at startup ({status})")));
        }
        if Instant::now() > deadline {
            if let Some(mut child) = child {
                let _ = child.kill();
            }
            return Err(died(config, format!("did not answer within {} s", READY.as_secs())));
        }
    }
}

/// Whether no daemon uses the state of ours: each locks it for as long as it lives.
fn root_is_free(config: &DaemonConfig) -> bool {
    File::open(config.root().join("buildkitd.lock")).map_or(true, |file| lock::try_shared(&file).unwrap_or(true))
}

/// A supervisor in a session of its own, so that neither Ctrl-C nor the closing of the terminal reaches it.
fn spawn(config: &DaemonConfig, buildkitd: &Path, network: &Network) -> Result<Child, BuildkitError> {
    let io = |what, path: &Path| {
        let path = path.to_owned();
        move |source| BuildkitError::Io { what, path, source }
    };
    let (toml, log, socket) = (config.toml_path(), config.log(), config.socket());
    network.lay_out(&config.folder).map_err(io("cannot write below", &config.folder))?;
    std::fs::write(&toml, config.toml(network)).map_err(io("cannot write", &toml))?;
    // Nobody answered on this socket. It is a leftover, and BuildKit would refuse to bind to it.
    let _ = std::fs::remove_file(&socket);
    if std::fs::metadata(&log).is_ok_and(|meta| meta.len() > LOG_BYTES) {
        let _ = std::fs::remove_file(&log);
    }
    let out = File::options().create(true).append(true).open(&log).map_err(io("cannot write", &log))?;
    let err = out.try_clone().map_err(io("cannot write", &log))?;
    let mut command = environment::command(&config.supervisor, Purpose::Daemon);
    command.args(supervise::arguments(&config.folder, buildkitd, config.idle));
    command.current_dir("/").stdin(Stdio::null()).stdout(out).stderr(err);
    command.in_new_session().spawn().map_err(io("cannot start", &config.supervisor))
}

/// What the lock of our own daemon's supervisor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Supervisor {
    /// Nobody holds the lock.
    Absent,
    /// Somebody holds it, and has not yet said who.
    Starting,
    /// This process holds it.
    Runs(Pid),
}

/// Whether the supervisor runs: it then holds its lock, and has written its pid there. Only a lock that is free, or was
/// never made, means that it does not: whoever starts another one removes the socket of the first.
fn supervisor(config: &DaemonConfig) -> Result<Supervisor, BuildkitError> {
    let path = config.supervisor_lock();
    let looked = || {
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Supervisor::Absent),
            opened => opened?,
        };
        // Shared, so that two who look at once do not see each other.
        if lock::try_shared(&file)? {
            return Ok(Supervisor::Absent);
        }
        let mut text = String::new();
        (&mut file).take(64).read_to_string(&mut text)?;
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        Ok(pid.map_or(Supervisor::Starting, Supervisor::Runs))
    };
    let looked = looked();
    looked.map_err(|source| BuildkitError::Io {
        what: "whether our daemon runs is not known: no look at",
        path,
        source,
    })
}

/// An error with its cause, in one line.
fn whole(error: &BuildkitError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

fn make_folders(config: &DaemonConfig) -> Result<(), BuildkitError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    let socket = config.socket();
    let socket_folder = socket.parent().unwrap_or(&config.folder);
    for folder in [config.folder.as_path(), socket_folder] {
        let io = |source| BuildkitError::Io { what: "cannot make the folder", path: folder.to_owned(), source };
        builder.create(folder).map_err(io)?;
        // Whoever can use the daemon can become root, so the folder is closed to others even if it already existed.
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).map_err(io)?;
    }
    Ok(())
}

fn open_lock(path: &Path) -> Result<File, BuildkitError> {
    lock::open(path).map_err(|source| BuildkitError::Io { what: "cannot open", path: path.to_owned(), source })
}

/// Polls until the condition holds.
async fn until(deadline: Instant, mut holds: impl FnMut() -> std::io::Result<bool>) -> Result<(), String> {
    loop {
        match holds() {
            Ok(true) => return Ok(()),
            Ok(false) if Instant::now() > deadline => return Err("is in use by another lian-build".to_owned()),
            Ok(false) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => return Err(format!("cannot be locked: {error}")),
        }
    }
}

fn died(config: &DaemonConfig, what: String) -> BuildkitError {
    let tail = log_tail(&config.log());
    let help = if tail.contains("no space left") {
        "free disk space with `lian-build gc`, then try again"
    } else if tail.contains("could not lock") || tail.contains("resource temporarily unavailable") {
        "another buildkitd uses this folder: stop it, or set LIAN_DATA_DIR to another one"
    } else {
        "`lian-build doctor` checks what a daemon needs on this machine"
    };
    BuildkitError::DaemonFailed { what, log: config.log(), tail, help: help.to_owned() }
}

/// How many bytes of the log's end are looked at.
const TAIL: u64 = 8192;

/// The last ten lines of the log, without Go's stack traces, which would hide what was logged before them.
fn log_tail(log: &Path) -> String {
    let read = || {
        let mut file = File::open(log).ok()?;
        let length = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let says = |line: &&str| line.contains(' ') && !line.starts_with(['\t', ' ']);
    let lines: Vec<&str> = text.lines().filter(says).collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_free_lock_means_that_no_daemon_runs() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = DaemonConfig::in_folder(folder.path(), "/nowhere".into());
        std::fs::create_dir_all(&config.folder).expect("a folder");
        assert_eq!(supervisor(&config).expect("looked"), Supervisor::Absent);
        let path = config.supervisor_lock();
        let own = lock::open(&path).expect("a file");
        std::fs::write(&path, "1").expect("a leftover");
        assert_eq!(supervisor(&config).expect("looked"), Supervisor::Absent);
        assert!(!Daemon::stop(&config).await.expect("nothing to stop"));
        assert!(lock::try_exclusive(&own).expect("lockable"));
        assert_eq!(supervisor(&config).expect("looked"), Supervisor::Runs(Pid::INIT));
        // It has the lock, and has not yet said who it is.
        std::fs::write(&path, "").expect("writable");
        assert_eq!(supervisor(&config).expect("looked"), Supervisor::Starting);
        drop(own);
        std::fs::remove_file(&path).expect("removable");
        std::os::unix::fs::symlink(&path, &path).expect("a link to itself");
        let unknown = Daemon::stop(&config).await.expect_err("nobody can look");
        assert!(whole(&unknown).contains("not known") && whole(&unknown).contains("symbolic links"), "{unknown}");
    }
}
