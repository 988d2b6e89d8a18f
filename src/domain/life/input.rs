//! The inputs of a run: what has happened. Not responsible for: reacting to them.

use serde::{Deserialize, Serialize};

use super::effect::Timer;
use crate::domain::base::{Digest, LayerName, LeaseId};
use crate::domain::model::{Fault, Measured};

/// How urgently the run must stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopLevel {
    /// Start nothing more and cancel builds cleanly.
    Cancel,
    /// Kill what is still running.
    Kill,
    /// End the run now: what is not given back stays in the ledger.
    Leave,
}

/// Something happened. The journal holds the inputs in order; they alone are enough to rebuild a run's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "input", rename_all = "snake_case")]
pub enum Input {
    /// The run begins.
    Begin,
    /// A runner was granted.
    LeaseGranted {
        /// The lease that was requested.
        lease: LeaseId,
        /// The granted runner type, which may be larger than the requested one.
        runner_type: String,
        /// Its virtual CPUs.
        cpu: u32,
        /// Its memory, GB.
        memory_gb: u32,
    },
    /// No runner was granted.
    LeaseRefused {
        /// The lease that was requested.
        lease: LeaseId,
        /// Why.
        fault: Fault,
    },
    /// This run may build the step's key, and nobody has built it meanwhile.
    Claimed {
        /// The layer.
        layer: LayerName,
    },
    /// Another run builds the step's key.
    ClaimTaken {
        /// The layer.
        layer: LayerName,
    },
    /// The context is on the runner.
    Synced {
        /// The layer.
        layer: LayerName,
    },
    /// The image is built, not yet verified.
    BuildDone {
        /// The layer.
        layer: LayerName,
        /// The image.
        digest: Digest,
        /// The steps of the Dockerfile.
        steps: u32,
        /// How many of them were cached.
        cached: u32,
        /// What the build used of its runner.
        #[serde(default)]
        measured: Option<Measured>,
    },
    /// Another run has built the same key in the meantime: its image is there and verified.
    Found {
        /// The layer.
        layer: LayerName,
        /// The image.
        digest: Digest,
    },
    /// The image was verified.
    Verified {
        /// The layer.
        layer: LayerName,
    },
    /// The image's tags were moved.
    Promoted {
        /// The layer.
        layer: LayerName,
    },
    /// The build was written to the history.
    Recorded {
        /// The layer.
        layer: LayerName,
    },
    /// A step's effect failed.
    Faulted {
        /// The layer.
        layer: LayerName,
        /// Why.
        fault: Fault,
    },
    /// The task that was to be killed has ended.
    Killed {
        /// The layer.
        layer: LayerName,
    },
    /// A lease was released.
    Released {
        /// The lease.
        lease: LeaseId,
    },
    /// A lease could not be released this time.
    ReleaseFailed {
        /// The lease.
        lease: LeaseId,
        /// Why.
        message: String,
        /// Whether another try gets the same answer: the provider refuses, or nobody answers at all.
        #[serde(default)]
        is_final: bool,
    },
    /// A timer fired.
    TimerFired {
        /// Which.
        timer: Timer,
    },
    /// Somebody asked the run to stop.
    Stop {
        /// How urgently.
        level: StopLevel,
    },
}
