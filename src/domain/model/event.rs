//! What happens in a run, as programs read it: `apply --format json` writes one a line. Not responsible for: how people see it.

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
    /// An image with its key was there.
    Reused,
    /// It failed; no tag moved.
    Failed,
    /// A parent did not end well.
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
    /// Somebody stopped it.
    Cancelled,
}

/// Where a vertex (a step of a Dockerfile) stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VertexState {
    /// It runs.
    Started,
    /// It ran.
    Completed,
    /// It did not have to.
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
        /// Where it stands now.
        state: VertexState,
        /// How long it ran, in milliseconds, where it ended.
        duration_ms: Option<u64>,
        /// The error of a failed one.
        error: Option<String>,
    },
    /// Text that a step wrote (whole or partial lines, lossy UTF-8).
    Log {
        /// The vertex.
        vertex: String,
        /// The text.
        text: String,
    },
    /// Bytes that a step moved (a pull, a context transfer, an export).
    Progress {
        /// The vertex.
        vertex: String,
        /// What is moved.
        id: String,
        /// Bytes done.
        current: u64,
        /// Bytes in all, where known.
        total: Option<u64>,
    },
    /// What the build uses of its runner's memory now.
    Memory {
        /// Bytes, caches aside.
        used: u64,
        /// Bytes that it may use.
        limit: u64,
    },
    /// A remark of the frontend.
    Warning {
        /// In one line.
        message: String,
    },
}

/// What a build used of its runner, sampled while it ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Bytes of memory at most, caches aside.
    pub memory_peak: u64,
    /// Bytes of memory that it could have used.
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
    /// The image, where there is one.
    pub digest: Option<Digest>,
    /// From its first lease to its end, in milliseconds; 0 where nothing ran.
    pub duration_ms: u64,
    /// The size it ran on.
    pub runner_type: Option<String>,
    /// How often it was built (0 where nothing ran).
    pub attempts: u32,
    /// Dockerfile steps that ran or were cached.
    pub steps: u32,
    /// Of these, cached.
    pub cached: u32,
    /// How long it was in each phase (see [`EventBody::StepPhase`]), all tries together, milliseconds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub phases: BTreeMap<String, u64>,
    /// What its build used, where the runner counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// For whose sake it was skipped.
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
    /// Somebody wants the run to stop.
    #[serde(rename = "run.stopping")]
    RunStopping {
        /// Whether what still runs is killed rather than cancelled: a second request to stop.
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
    /// A lease is gone.
    #[serde(rename = "lease.released")]
    LeaseReleased {
        /// The lease.
        lease: LeaseId,
    },
    /// A lease could not be given back.
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
    /// A step is tried again.
    #[serde(rename = "step.retried")]
    StepRetried {
        /// The layer.
        layer: LayerName,
        /// Why.
        fault: Fault,
        /// On this size.
        runner_type: String,
    },
    /// A step ended.
    #[serde(rename = "step.finished")]
    StepFinished(StepEnd),
    /// What the run's leases came to, where they cost anything.
    #[serde(rename = "run.cost")]
    RunCost {
        /// ISO 4217.
        currency: String,
        /// Millionths of its unit.
        micros: u64,
        /// Leases that were granted.
        leases: usize,
        /// Hours that were started.
        started_hours: u64,
    },
    /// Progress events that were left out here because the one who is told could not keep up.
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
