//! What the world tells a run. Not responsible for: acting on it.

use serde::{Deserialize, Serialize};

use super::effect::Timer;
use crate::domain::base::{Digest, LayerName, LeaseId};
use crate::domain::model::{Fault, Measured};

/// How urgently somebody wants the run to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopLevel {
    /// Start nothing more and cancel builds cleanly.
    Cancel,
    /// Kill what still runs.
    Kill,
}

/// Something happened. Journalled in order, these alone rebuild a run's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "input", rename_all = "snake_case")]
pub enum Input {
    /// Go.
    Begin,
    /// A runner is there.
    LeaseGranted {
        /// As asked for.
        lease: LeaseId,
        /// What was granted: may be larger than what was asked for.
        runner_type: String,
        /// Its virtual CPUs.
        cpu: u32,
        /// Its memory, GB.
        memory_gb: u32,
    },
    /// No runner came.
    LeaseRefused {
        /// As asked for.
        lease: LeaseId,
        /// Why.
        fault: Fault,
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
        /// Dockerfile steps.
        steps: u32,
        /// Of these, cached.
        cached: u32,
        /// What the build used.
        #[serde(default)]
        measured: Option<Measured>,
    },
    /// Another run built the same key meanwhile: its image is there, verified.
    Found {
        /// The layer.
        layer: LayerName,
        /// The image.
        digest: Digest,
    },
    /// The image holds what it must.
    Verified {
        /// The layer.
        layer: LayerName,
    },
    /// Its tags moved.
    Promoted {
        /// The layer.
        layer: LayerName,
    },
    /// History knows it.
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
    /// What was asked to be killed is gone.
    Killed {
        /// The layer.
        layer: LayerName,
    },
    /// A lease is gone.
    Released {
        /// The lease.
        lease: LeaseId,
    },
    /// A lease could not be given back this time.
    ReleaseFailed {
        /// The lease.
        lease: LeaseId,
        /// Why.
        message: String,
    },
    /// An armed timer fired.
    TimerFired {
        /// Which.
        timer: Timer,
    },
    /// Somebody wants it to stop.
    Stop {
        /// How urgently.
        level: StopLevel,
    },
}
