//! The trait that every transport to a runner implements. Not responsible for: what is done on the runner (see
//! `adapters::runner`).

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::model::Fault;
use crate::system::exec::{Exec, Output};

/// Called with the bytes that a copy has sent so far.
pub type Progress<'a> = &'a (dyn Fn(u64) + Send + Sync);

/// Properties of a runner as seen from inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// The address of the BuildKit daemon, for a `buildctl` that runs on the runner.
    pub daemon: String,
    /// The cgroups that count builds, as shell words. The first one with counters is read.
    pub cgroups: &'static str,
    /// Minimum interval between reads of the counters, so that builds are not slowed.
    pub pace: Duration,
    /// Whether other clients may use the runner: then it is locked, and cleaned before and after use.
    pub shared: bool,
}

/// What a look at a runner finds: whether it can build now, and what is missing if not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// Its BuildKit daemon answers.
    Ready,
    /// Its first boot has not ended.
    Booting,
    /// No daemon listens: there is no socket.
    NoSocket,
    /// There is a socket, and the user of the connection may not open it.
    Denied,
    /// It lets us in and does not run commands; with what it says instead.
    NoShell(String),
    /// There is a socket, and no daemon answers on it; with what was seen instead.
    NoAnswer(String),
}

/// Problems on a runner, for any transport. Each transport words them for its own kind of runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// It was not ready after this time, for this reason.
    NotReady(Duration, Readiness),
    /// It accepts connections, but a command did not finish within this time.
    Hangs(Duration),
    /// Neither its daemon nor a command has answered for this time: the runner, or the way to it, is gone.
    Silent(Duration),
    /// Its memory counters could not be parsed.
    NoCounters,
}

/// A connection to one runner. Dropping it ends everything that runs over it.
#[async_trait]
pub trait Transport: Exec {
    /// The runner's name in messages.
    fn name(&self) -> &str;

    /// The runner's properties.
    fn environment(&self) -> Environment;

    /// Runs a script to its end, with this input. Only the beginning of the output is kept.
    ///
    /// # Errors
    /// [`Transport::lost`] if there is no exit code.
    async fn exec(&self, script: &str, input: &[u8]) -> Result<Output, Fault> {
        self.start(script).await?.finish(input).await.map_err(|why| self.lost(&why))
    }

    /// Copies files and folders (paths relative to `from`) to the same paths below an existing folder of the runner.
    /// Keeps times, but not owners. Modes become git's (see `FileKind::git_mode`), whatever the umask was here.
    async fn copy_in(&self, from: &Path, files: &[OsString], to: &str, sent: Progress<'_>) -> Result<(), Fault>;

    /// The address of the runner's BuildKit daemon, for a `buildctl` that runs on this machine.
    async fn daemon_address(&self) -> Result<String, Fault>;

    /// Looks whether the runner can build now, and asks its BuildKit daemon. A daemon that hangs does not hold it up for
    /// longer than [`ANSWER`](crate::system::watch::ANSWER); a runner that hangs does.
    ///
    /// # Errors
    /// [`Transport::lost`] if the runner cannot be asked.
    async fn look(&self) -> Result<Readiness, Fault>;

    /// Asks its BuildKit daemon and nothing else, as cheaply as possible: it is asked again and again during a build.
    ///
    /// # Errors
    /// As [`Transport::look`].
    async fn ask_daemon(&self) -> Result<Readiness, Fault> {
        self.look().await
    }

    /// Checks that the runner still responds; the fault says why not.
    async fn check(&self) -> Result<(), Fault>;

    /// The fault for an unreachable runner, with the evidence.
    fn lost(&self, evidence: &str) -> Fault;

    /// The fault for this problem.
    async fn explain(&self, problem: Problem) -> Fault;

    /// Whether the kernel killed the whole runner for lack of memory. Called when its counters cannot be read.
    async fn died_of_memory(&self) -> bool {
        false
    }
}
