//! The interface for recording a run. Not responsible for: deciding what to record, notifying sinks (see `sink`).

use std::collections::BTreeMap;
use std::time::Duration;

use super::record::Resource;
use crate::domain::base::{Digest, LayerName, LeaseId, Timestamp};
use crate::domain::model::{Classified, FaultClass, LayerKey, Measured};

/// The kind of a journal line. Replaying the inputs on the start restores the run's state and every event. The next
/// command replays a dead run to report its progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalKind {
    /// The run's initial steps and limits.
    Start,
    /// An input to the run.
    Input,
}

/// A finished build, for the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildRecord {
    /// The layer.
    pub layer: LayerName,
    /// Its key.
    pub key: LayerKey,
    /// The image.
    pub digest: Digest,
    /// From its first lease to the promotion.
    pub duration: Duration,
    /// Time in each phase (`leasing`, `syncing`, `building`, `verifying`), milliseconds.
    pub phases: BTreeMap<String, u64>,
    /// Dockerfile steps.
    pub steps: u32,
    /// Of these, cached.
    pub cached: u32,
    /// The runner type.
    pub runner_type: String,
    /// The resources it used, if measured.
    pub measured: Option<Measured>,
    /// When it was promoted.
    pub at: Timestamp,
}

/// A lease's state in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseMark {
    /// Recorded before the request.
    Asked,
    /// It was granted.
    Held,
    /// It was released.
    Gone,
    /// Its own run could not release it.
    Stuck,
}

/// The journal could not be written.
#[derive(Debug, Clone, thiserror::Error, miette::Diagnostic)]
#[error("the journal cannot be written: {message}")]
#[diagnostic(code(lian::store::journal), help("{help}"))]
pub struct JournalError {
    /// The cause.
    pub message: String,
    /// The next action.
    pub help: String,
}

impl Classified for JournalError {
    fn class(&self) -> FaultClass {
        FaultClass::Unavailable
    }
}

/// The journal of one run. Blocking, but short.
pub trait Journal: Send + Sync {
    /// Appends a line of JSON; on return it survives a kill of this process.
    fn append(&self, at: Timestamp, kind: JournalKind, json: &str) -> Result<(), JournalError>;

    /// Writes a lease's state into the ledger; on return it survives a power cut. `runner_type` is the requested or
    /// granted type.
    fn lease(
        &self,
        at: Timestamp,
        lease: &LeaseId,
        mark: LeaseMark,
        runner_type: Option<&str>,
    ) -> Result<(), JournalError>;

    /// Adds to the ledger what became known of a lease; on return it survives a power cut. Idempotent.
    fn learned(&self, at: Timestamp, lease: &LeaseId, resource: &Resource) -> Result<(), JournalError>;

    /// Adds a finished build to the history.
    fn record(&self, build: &BuildRecord) -> Result<(), JournalError>;
}
