//! What a run wants done. Not responsible for: doing it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::step::Placement;
use crate::domain::base::{LayerName, LeaseId};
use crate::domain::model::{EventBody, Size};

/// What a timer was armed for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "timer", rename_all = "snake_case")]
pub enum Timer {
    /// A step's time budget. Counted by attempt, so that an old timer does not end a new attempt.
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
    /// A lease has lived as long as it may.
    Lifetime {
        /// The lease.
        lease: LeaseId,
    },
    /// The hour of an idle lease turns.
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

/// Something to do. The dispatcher answers each but `Emit`, `Abandon` and `Finish` with exactly one input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Tell whoever listens. Never answered, never waited for.
    Emit(Box<EventBody>),
    /// Rent a runner.
    Acquire {
        /// The name to rent it under.
        lease: LeaseId,
        /// For this layer.
        layer: LayerName,
        /// At least this size.
        size: Size,
        /// Of exactly this place.
        place: Placement,
    },
    /// The runner that was asked for is not wanted any more: what can be cut short of its coming is. Not answered: the
    /// `Acquire` is.
    Abandon {
        /// The lease.
        lease: LeaseId,
    },
    /// Bring the context.
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
    /// Check that the image holds what it must.
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
        /// Of this, how long it was in each phase, milliseconds.
        phases: BTreeMap<String, u64>,
    },
    /// Stop the step's sync, build or verification; answered by `Killed`.
    Kill {
        /// The layer.
        layer: LayerName,
        /// Without ceremony.
        hard: bool,
    },
    /// Give a runner back.
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
