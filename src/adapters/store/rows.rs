//! Converts ids, times and states to and from column values, and says which ids may be part of a path. Not responsible for: the tables.

use std::path::{Path, PathBuf};

use rusqlite::Row;

use crate::domain::base::{RunId, Timestamp};
use crate::domain::model::RunState;
use crate::system::confined::is_name;

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

/// Reads an id that becomes part of a path or of a name at a provider. What no lian-build wrote is refused.
pub(super) fn id(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    let text: String = row.get(column)?;
    if is_name(&text) {
        return Ok(text);
    }
    let what = format!("`{}` is no id of lian-build's", text.chars().take(80).collect::<String>().escape_debug());
    Err(rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, what.into()))
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
