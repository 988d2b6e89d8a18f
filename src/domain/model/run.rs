//! A run as `runs` lists it. Not responsible for: where it is stored.

use serde::{Deserialize, Serialize};

use crate::domain::base::{RunId, Timestamp};

/// The state of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Its process is running.
    Running,
    /// Every step was built or reused.
    Success,
    /// At least one step failed.
    Failure,
    /// Somebody stopped it.
    Cancelled,
    /// Its process died before the run ended.
    Interrupted,
}

/// A run of this project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The run.
    pub id: RunId,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// Where it stands.
    pub state: RunState,
    /// The command line, without the program's name.
    pub command: String,
    /// Steps built.
    pub built: usize,
    /// Steps reused.
    pub reused: usize,
    /// Steps failed.
    pub failed: usize,
    /// Steps skipped or cancelled.
    pub skipped: usize,
}
