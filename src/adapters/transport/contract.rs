//! What every way to a runner can do. Not responsible for: what is done on the runner (see `adapters::runner`).

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::model::Fault;
use crate::system::exec::{Exec, Output};

/// Told the bytes that a copy has sent so far.
pub type Progress<'a> = &'a (dyn Fn(u64) + Send + Sync);

/// How a runner looks from inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// The address of the BuildKit daemon, for a `buildctl` that runs on the runner.
    pub daemon: String,
    /// A shell test that succeeds as soon as the runner can build.
    pub ready_test: String,
    /// The cgroups in which builds are counted, as words of the shell. The first one that has counters is read.
    pub cgroups: &'static str,
    /// How often the counters may be read without slowing a build.
    pub pace: Duration,
    /// Whether others may use the runner too: then it is held under a lock, and cleaned before and after.
    pub shared: bool,
}

/// What can go wrong on a runner, however it is reached. Each transport words it for its own kind of runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// It could not build after this time.
    NotReady(Duration),
    /// It lets in, and then nothing ends within this time.
    Hangs(Duration),
    /// Its memory counters are not understood.
    NoCounters,
}

/// A way to one runner. Dropping it ends everything that runs over it.
#[async_trait]
pub trait Transport: Exec {
    /// The runner's name in messages.
    fn name(&self) -> &str;

    /// How the runner looks from inside.
    fn environment(&self) -> Environment;

    /// Runs a script to its end, with this input. Of the output the beginning is kept.
    ///
    /// # Errors
    /// [`Transport::lost`] where it has no exit code.
    async fn exec(&self, script: &str, input: &[u8]) -> Result<Output, Fault> {
        self.start(script).await?.finish(input).await.map_err(|why| self.lost(&why))
    }

    /// Copies these files and folders (paths relative to `from`) to the same places below a folder of the runner, which
    /// exists, with modes and times, without owners.
    async fn copy_in(&self, from: &Path, files: &[OsString], to: &str, sent: Progress<'_>) -> Result<(), Fault>;

    /// The address of the runner's BuildKit daemon, for a `buildctl` that runs on this machine.
    async fn daemon_address(&self) -> Result<String, Fault>;

    /// Whether the runner still answers; else the fault says why not.
    async fn check(&self) -> Result<(), Fault>;

    /// The fault of a runner that is not reached any more, with what showed it.
    fn lost(&self, evidence: &str) -> Fault;

    /// The fault of this problem.
    async fn explain(&self, problem: Problem) -> Fault;

    /// Whether the kernel has ended the whole runner for want of memory. Asked when its counters cannot be read any more.
    async fn died_of_memory(&self) -> bool {
        false
    }
}
