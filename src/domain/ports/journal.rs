//! Writing down what happens in a run. Not responsible for: deciding what is worth writing, telling listeners (see `sink`).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::base::{Digest, LayerName, LeaseId, Timestamp};
use crate::domain::model::{Classified, FaultClass, LayerKey, Measured};

/// What a journal line holds. Replaying the inputs on the start gives the run's state, and every event on its way: nothing
/// else needs to be written. The next command reads it of a run that died, to say how far it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalKind {
    /// What the run begins with: its steps and bounds.
    Start,
    /// Something that the run was told.
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
    /// Of this, how long it was in each phase (`leasing`, `syncing`, `building`, `verifying`), milliseconds.
    pub phases: BTreeMap<String, u64>,
    /// Dockerfile steps.
    pub steps: u32,
    /// Of these, cached.
    pub cached: u32,
    /// What it ran on.
    pub runner_type: String,
    /// What it used there, where that was counted.
    pub measured: Option<Measured>,
    /// When it was promoted.
    pub at: Timestamp,
}

/// What the ledger knows of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseMark {
    /// It is about to be asked for.
    Asked,
    /// It was granted.
    Held,
    /// It is given back.
    Gone,
    /// It could not be given back in its own run.
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

    /// Writes into the ledger how a lease stands; on return it survives a power cut. `runner_type` is what was asked for or
    /// granted.
    fn lease(
        &self,
        at: Timestamp,
        lease: &LeaseId,
        mark: LeaseMark,
        runner_type: Option<&str>,
    ) -> Result<(), JournalError>;

    /// Adds a finished build to the history.
    fn record(&self, build: &BuildRecord) -> Result<(), JournalError>;
}
