//! The events of a run, as `apply --format json` writes them, one per line. Not responsible for: display to people.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fault::Fault;
use crate::domain::base::{Digest, LayerName, LeaseId, RunId, Timestamp};

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Built, verified and promoted.
    Built,
    /// An image with its key existed.
    Reused,
    /// It failed; no tag moved.
    Failed,
    /// A parent did not succeed.
    Skipped,
    /// The run was stopped.
    Cancelled,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// Every step was built or reused.
    Success,
    /// At least one step failed.
    Failure,
    /// A stop was requested.
    Cancelled,
}

/// The state of a vertex (a step of a Dockerfile).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VertexState {
    /// It runs.
    Started,
    /// It ran.
    Completed,
    /// Its result was cached.
    Cached,
    /// It failed.
    Failed,
}

/// What one build reports while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum BuildEvent {
    /// A step of the Dockerfile changed its state.
    Vertex {
        /// Its digest: its identity within the build.
        vertex: String,
        /// Its name, e.g. `[4/6] RUN cargo chef cook --release`.
        name: String,
        /// Its new state.
        state: VertexState,
        /// Duration in milliseconds, once it ended.
        duration_ms: Option<u64>,
        /// The error, if it failed.
        error: Option<String>,
    },
    /// Text that a step wrote (whole or partial lines, lossy UTF-8).
    Log {
        /// The vertex.
        vertex: String,
        /// The text.
        text: String,
    },
    /// Bytes that a step transferred (a pull, a context transfer, an export).
    Progress {
        /// The vertex.
        vertex: String,
        /// What is transferred.
        id: String,
        /// Bytes done.
        current: u64,
        /// Total bytes, if known.
        total: Option<u64>,
    },
    /// The build's current memory use on its runner.
    Memory {
        /// Bytes, without caches.
        used: u64,
        /// Limit in bytes.
        limit: u64,
    },
    /// A warning of the frontend.
    Warning {
        /// In one line.
        message: String,
    },
}

/// The resources a build used on its runner, sampled while it ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Peak memory without caches, bytes.
    pub memory_peak: u64,
    /// Memory limit, bytes.
    pub memory_limit: u64,
    /// Processor time, milliseconds.
    pub cpu_ms: u64,
}

/// The end of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepEnd {
    /// The layer.
    pub layer: LayerName,
    /// How it ended.
    pub outcome: Outcome,
    /// The image, if there is one.
    pub digest: Option<Digest>,
    /// Milliseconds from its first lease to its end; 0 if nothing ran.
    pub duration_ms: u64,
    /// The size it ran on.
    pub runner_type: Option<String>,
    /// How often it was built (0 if nothing ran).
    pub attempts: u32,
    /// Dockerfile steps that ran or were cached.
    pub steps: u32,
    /// Of these, cached.
    pub cached: u32,
    /// Milliseconds in each phase (see [`EventBody::StepPhase`]), summed over all attempts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub phases: BTreeMap<String, u64>,
    /// The resources its build used, if the runner counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// The failed ancestor because of which it was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<LayerName>,
}

/// One event of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// In which run.
    pub run: RunId,
    /// What.
    #[serde(flatten)]
    pub body: EventBody,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum EventBody {
    /// The run began.
    #[serde(rename = "run.started")]
    RunStarted {
        /// Steps to build.
        build: usize,
        /// Steps to reuse.
        reuse: usize,
    },
    /// A stop was requested.
    #[serde(rename = "run.stopping")]
    RunStopping {
        /// Whether running work is killed rather than cancelled: a second request.
        hard: bool,
    },
    /// A lease was granted to a step.
    #[serde(rename = "lease.granted")]
    LeaseGranted {
        /// The lease.
        lease: LeaseId,
        /// For this layer.
        layer: LayerName,
        /// Its size.
        runner_type: String,
    },
    /// A lease was released.
    #[serde(rename = "lease.released")]
    LeaseReleased {
        /// The lease.
        lease: LeaseId,
    },
    /// A lease could not be released.
    #[serde(rename = "lease.stuck")]
    LeaseStuck {
        /// The lease.
        lease: LeaseId,
        /// Why.
        message: String,
    },
    /// A step's build began.
    #[serde(rename = "step.started")]
    StepStarted {
        /// The layer.
        layer: LayerName,
        /// Which attempt, from 1.
        attempt: u32,
    },
    /// A step entered another phase.
    #[serde(rename = "step.phase")]
    StepPhase {
        /// The layer.
        layer: LayerName,
        /// `leasing`, `syncing`, `building`, `verifying`, `recording`.
        phase: String,
    },
    /// A build reports.
    #[serde(rename = "step.progress")]
    StepProgress {
        /// The layer.
        layer: LayerName,
        /// What.
        progress: BuildEvent,
    },
    /// A step is retried.
    #[serde(rename = "step.retried")]
    StepRetried {
        /// The layer.
        layer: LayerName,
        /// Why.
        fault: Fault,
        /// The size for the retry.
        runner_type: String,
    },
    /// A step ended.
    #[serde(rename = "step.finished")]
    StepFinished(StepEnd),
    /// The cost of the run's leases, if they cost anything.
    #[serde(rename = "run.cost")]
    RunCost {
        /// ISO 4217.
        currency: String,
        /// Millionths of the currency's unit.
        micros: u64,
        /// Leases that were granted.
        leases: usize,
        /// Hours that were started.
        started_hours: u64,
    },
    /// Progress events dropped here because the sink could not keep up.
    #[serde(rename = "events.dropped")]
    EventsDropped {
        /// How many.
        count: u64,
    },
    /// The run ended; always the last.
    #[serde(rename = "run.finished")]
    RunFinished {
        /// How.
        outcome: RunOutcome,
        /// Steps built.
        built: usize,
        /// Steps reused.
        reused: usize,
        /// Steps failed.
        failed: usize,
        /// Steps skipped or cancelled.
        skipped: usize,
    },
}
