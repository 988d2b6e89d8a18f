//! The effects that a run requests. Not responsible for: performing them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::step::Placement;
use crate::domain::base::{LayerName, LeaseId};
use crate::domain::model::{EventBody, Size};

/// What a timer was set for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "timer", rename_all = "snake_case")]
pub enum Timer {
    /// A step's time budget. It belongs to one attempt, so that an old timer does not end a new attempt.
    Budget {
        /// The layer.
        layer: LayerName,
        /// The attempt it was armed for.
        attempt: u32,
    },
    /// The pause before another try.
    Retry {
        /// The layer.
        layer: LayerName,
    },
    /// A lease has reached its maximum lifetime.
    Lifetime {
        /// The lease.
        lease: LeaseId,
    },
    /// The next hour of an idle lease is about to start.
    Turn {
        /// The lease.
        lease: LeaseId,
    },
    /// The pause before another release.
    Release {
        /// The lease.
        lease: LeaseId,
    },
}

/// An effect to perform. The dispatcher answers each one except `Emit`, `Abandon` and `Finish` with exactly one input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send an event to all listeners. Never answered, never waited for.
    Emit(Box<EventBody>),
    /// Try once to claim the step's key. Answered by `Claimed`, `ClaimTaken`, `Found` or `Faulted`.
    Claim {
        /// The layer.
        layer: LayerName,
    },
    /// Wait until the other run that builds the key has ended, and claim it then. Answered by `Claimed`, `Found` or
    /// `Faulted`.
    AwaitClaim {
        /// The layer.
        layer: LayerName,
    },
    /// Rent a runner.
    Acquire {
        /// The id to rent it under.
        lease: LeaseId,
        /// For this layer.
        layer: LayerName,
        /// At least this size.
        size: Size,
        /// In exactly this placement.
        place: Placement,
    },
    /// The requested runner is no longer needed: cancel what can be cancelled of the request. Not answered itself; the
    /// `Acquire` is.
    Abandon {
        /// The lease.
        lease: LeaseId,
    },
    /// Bring the context to the runner.
    Sync {
        /// The layer.
        layer: LayerName,
        /// To this runner.
        lease: LeaseId,
    },
    /// Build the image.
    Build {
        /// The layer.
        layer: LayerName,
        /// On this runner.
        lease: LeaseId,
    },
    /// Verify the image.
    Verify {
        /// The layer.
        layer: LayerName,
        /// On this runner.
        lease: LeaseId,
    },
    /// Move the tags onto the verified image.
    Promote {
        /// The layer.
        layer: LayerName,
    },
    /// Write the build into the history.
    Record {
        /// The layer.
        layer: LayerName,
        /// How long it took.
        duration: Duration,
        /// How long it was in each phase, in milliseconds.
        phases: BTreeMap<String, u64>,
    },
    /// Stop the step's sync, build or verification. Answered by `Killed`.
    Kill {
        /// The layer.
        layer: LayerName,
        /// Whether to kill it at once instead of cancelling it.
        hard: bool,
    },
    /// Release a runner.
    Release {
        /// The lease.
        lease: LeaseId,
    },
    /// Wake the run up later.
    Arm {
        /// With this.
        timer: Timer,
        /// After this long.
        after: Duration,
    },
    /// The run is over; nothing follows.
    Finish,
}
