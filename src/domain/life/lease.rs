//! A lease within a run: where it stands, what it is. Not responsible for: who gets it.

use serde::{Deserialize, Serialize};

use super::step::Placement;
use crate::domain::base::{LayerName, Timestamp};
use crate::domain::model::Size;

/// Where a lease stands. What was asked for is released exactly once, whatever happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// Asked for; no answer yet. `unwanted` ones go back as soon as they come.
    Asked {
        /// Whether nobody wants it any more.
        unwanted: bool,
    },
    /// In use.
    Held,
    /// Kept for the next step that it fits.
    Idle,
    /// On its way back.
    Releasing {
        /// How often that failed.
        failures: u32,
    },
    /// Given back, or never granted.
    Gone,
    /// It could not be given back: shown loudly, tried again by later commands.
    Stuck,
}

impl LeaseState {
    /// Whether nothing more is to be done about it in this run.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Gone | Self::Stuck)
    }
}

/// A lease with what is known of it: what was asked for, from its grant on what was granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lease {
    pub state: LeaseState,
    /// Which of the run's, in the order of asking.
    pub number: usize,
    pub place: Placement,
    pub runner_type: String,
    pub cpu: u32,
    pub memory_gb: u32,
    pub asked: Timestamp,
    /// The layers that were brought to it: BuildKit there has what they stand on, and them.
    pub layers: Vec<LayerName>,
    /// Its lifetime is over: nothing more goes to it.
    pub expired: bool,
}

impl Lease {
    pub fn asked(number: usize, place: Placement, size: &Size, at: Timestamp) -> Self {
        Self {
            state: LeaseState::Asked { unwanted: false },
            number,
            place,
            runner_type: size.runner_type.clone(),
            cpu: size.cpu,
            memory_gb: size.memory_gb,
            asked: at,
            layers: Vec::new(),
            expired: false,
        }
    }

    /// Whether it is what a step of this place and size needs.
    pub fn fits(&self, place: &Placement, size: &Size) -> bool {
        self.place == *place && self.cpu >= size.cpu && self.memory_gb >= size.memory_gb
    }
}
