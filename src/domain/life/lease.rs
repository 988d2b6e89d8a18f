//! The state of a lease within a run. Not responsible for: assigning it to a step.

use serde::{Deserialize, Serialize};

use super::step::Placement;
use crate::domain::base::{LayerName, Timestamp};
use crate::domain::model::Size;

/// The state of a lease. Whatever was requested is released exactly once, whatever happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// Requested; there is no answer yet. If it is unwanted, it is released as soon as it is granted.
    Asked {
        /// Whether no step needs it any more.
        unwanted: bool,
    },
    /// A step uses it.
    Held,
    /// Kept for the next step that it fits.
    Idle,
    /// Being released.
    Releasing {
        /// How many tries have failed.
        failures: u32,
    },
    /// Released, or never granted.
    Gone,
    /// It could not be released: it is reported prominently, and later commands try again.
    Stuck,
}

impl LeaseState {
    /// Whether this run has nothing more to do about it.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Gone | Self::Stuck)
    }
}

/// A lease: as it was requested, and from its grant on as it was granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lease {
    pub state: LeaseState,
    /// Its number in this run, in the order of requests.
    pub number: usize,
    pub place: Placement,
    pub runner_type: String,
    pub cpu: u32,
    pub memory_gb: u32,
    pub asked: Timestamp,
    /// The layers that were brought to it. BuildKit there has their images and the images that they are based on.
    pub layers: Vec<LayerName>,
    /// Whether its lifetime is over, so that no step may start on it.
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

    /// Whether a step with this placement and size could use it.
    pub fn fits(&self, place: &Placement, size: &Size) -> bool {
        self.place == *place && self.cpu >= size.cpu && self.memory_gb >= size.memory_gb
    }
}
