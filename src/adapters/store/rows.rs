//! How times and states are written in rows. Not responsible for: which rows there are.

use crate::domain::base::Timestamp;
use crate::domain::model::RunState;

/// SQLite's integers are signed.
pub(super) fn millis(at: Timestamp) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

/// A state as it is kept.
pub(super) fn state_word(state: RunState) -> &'static str {
    match state {
        RunState::Running => "running",
        RunState::Success => "success",
        RunState::Failure => "failure",
        RunState::Cancelled => "cancelled",
        RunState::Interrupted => "interrupted",
    }
}
