//! The process that supervises our own daemon: starts it, waits until nobody uses it, stops it, and takes it down when
//! the supervisor itself ends. Not responsible for: builds.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::network_leftovers;
use crate::domain::ports::STEP_LOGS;
use crate::system::environment::{self, Purpose};
use crate::system::lock;
use crate::system::process::CommandExt as _;

/// The hidden command of the binary that runs [`supervise`].
pub const SUPERVISE_COMMAND: &str = "__buildkitd";

/// How long a daemon may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(10);

/// The supervisor's arguments: `FOLDER BUILDKITD IDLE_MILLISECONDS`.
struct Orders {
    folder: PathBuf,
    buildkitd: PathBuf,
    idle: Duration,
}

pub(super) fn arguments(folder: &std::path::Path, buildkitd: &std::path::Path, idle: Duration) -> [PathBuf; 4] {
    [SUPERVISE_COMMAND.into(), folder.to_owned(), buildkitd.to_owned(), idle.as_millis().to_string().into()]
}

/// Runs the supervisor. Call it when the first argument of the process is [`SUPERVISE_COMMAND`], with the arguments
/// that follow. It is not meant for people.
pub fn supervise(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    let mut arguments = arguments.into_iter();
    let orders = (|| {
        Some(Orders {
            folder: arguments.next()?.into(),
            buildkitd: arguments.next()?.into(),
            idle: Duration::from_millis(arguments.next()?.to_str()?.parse().ok()?),
        })
    })();
    match orders.map(|orders| stand_over(&orders)) {
        None => ExitCode::from(64),
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            // Standard error is the daemon's log. Whoever waits for the daemon shows the end of it.
            let _ = writeln!(std::io::stderr(), "lian-build: the daemon's supervisor stops: {error}");
            ExitCode::FAILURE
        }
    }
}

fn stand_over(orders: &Orders) -> std::io::Result<()> {
    let mut own = lock::open(&orders.folder.join("supervisor.lock"))?;
    if !lock::try_exclusive(&own)? {
        return Ok(()); // Another one is at work: it is the daemon's.
    }
    own.set_len(0)?;
    write!(own, "{}", std::process::id())?;
    let users = lock::open(&orders.folder.join("users.lock"))?;
    // The steps of a killed daemon become our children, so that we can end them.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    unmount_leftovers(&orders.folder);
    network_leftovers::give_back(&orders.folder);
    let mut daemon = start(orders)?;
    watch(orders, &users, &mut daemon)?;
    stop(&mut daemon)?;
    end_orphans();
    unmount_leftovers(&orders.folder);
    network_leftovers::give_back(&orders.folder);
    Ok(())
}

/// Kills the processes that the daemon left behind, and their children, until none is left.
fn end_orphans() {
    let began = Instant::now();
    loop {
        while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
        let orphans = children(rustix::process::getpid());
        if orphans.is_empty() || began.elapsed() > GRACE {
            return;
        }
        for orphan in orphans {
            let _ = kill_process(orphan, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The processes whose parent is this one.
pub(super) fn children(of: Pid) -> Vec<Pid> {
    let parent_id = of.as_raw_nonzero().to_string();
    let child = |entry: std::fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name in parentheses may hold anything. State and parent follow the last parenthesis.
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.to_owned();
        if parent == parent_id { Pid::from_raw(pid) } else { None }
    };
    std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok).filter_map(child).collect()
}

/// Unmounts what the steps of a dead daemon left mounted.
fn unmount_leftovers(folder: &std::path::Path) {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    let ours = |point: &&str| std::path::Path::new(point).starts_with(folder) && point.contains("/executor/");
    for point in points.filter(ours) {
        let _ = environment::command("umount", Purpose::Local).args(["-l", point]).stderr(Stdio::null()).status();
    }
}

fn start(orders: &Orders) -> std::io::Result<Child> {
    let mut command = environment::command(&orders.buildkitd, Purpose::Daemon);
    command.arg("--config").arg(orders.folder.join("buildkitd.toml")).stdin(Stdio::null());
    // What steps write is kept whole as far as a person may read it; what the user sets wins.
    for (name, value) in STEP_LOGS.iter().filter(|(name, _)| std::env::var_os(name).is_none()) {
        command.env(name, value);
    }
    // The daemon must not outlive its supervisor, however the supervisor ends. The signal is bound to this process's
    // only thread.
    command.end_with_parent(Signal::TERM).spawn()
}

/// Returns when the daemon has ended by itself, or when nobody has used it for the idle time. In the second case we
/// hold the users' lock: whoever comes now waits until the daemon is gone and starts another one.
fn watch(orders: &Orders, users: &File, daemon: &mut Child) -> std::io::Result<()> {
    let tick = (orders.idle / 10).clamp(Duration::from_millis(20), Duration::from_millis(500));
    let mut free_since = Instant::now();
    loop {
        std::thread::sleep(tick);
        if daemon.try_wait()?.is_some() {
            return Ok(());
        }
        // A lock that cannot be looked at may be in use: nobody's daemon is stopped for that.
        if !matches!(lock::try_exclusive(users), Ok(true)) {
            free_since = Instant::now();
        } else if free_since.elapsed() >= orders.idle {
            return Ok(());
        } else {
            lock::unlock(users)?;
        }
    }
}

fn stop(daemon: &mut Child) -> std::io::Result<()> {
    if daemon.try_wait()?.is_some() {
        return Ok(());
    }
    let _ = kill_process(Pid::from_child(daemon), Signal::TERM);
    let asked = Instant::now();
    while daemon.try_wait()?.is_none() {
        if asked.elapsed() > GRACE {
            daemon.kill()?;
            daemon.wait()?;
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
