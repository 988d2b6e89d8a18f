//! A lease within a run. Refuses: who gets it.

use serde::{Deserialize, Serialize};

/// Where a lease stands. What was asked for is released exactly once, whatever happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// Asked for; no answer yet. `unwanted` ones go back as soon as they come.
    Asked {
        /// Whether its step ended meanwhile.
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
