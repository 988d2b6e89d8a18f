//! Converts times and states to and from column values. Not responsible for: the tables.

use crate::domain::base::Timestamp;
use crate::domain::model::RunState;

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
