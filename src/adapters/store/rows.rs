//! Converts times and states to and from column values, and says where the lock of a run is. Not responsible for: the tables,
//! and which ids may be part of a path (see `system::sqlite`).

use std::path::{Path, PathBuf};

use crate::domain::base::{RunId, Timestamp};
use crate::domain::model::RunState;

/// The folder of the locks of runs, below the state folder.
pub(super) const RUNS: &str = "runs";

/// A run's lock, below the state folder.
pub(super) fn lock_file(id: &RunId) -> PathBuf {
    Path::new(RUNS).join(format!("{id}.lock"))
}

/// SQLite integers are signed.
pub(super) fn millis(at: Timestamp) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

/// The stored name of a state.
pub(super) fn state_word(state: RunState) -> &'static str {
    match state {
        RunState::Running => "running",
        RunState::Success => "success",
        RunState::Failure => "failure",
        RunState::Cancelled => "cancelled",
        RunState::Interrupted => "interrupted",
    }
}
