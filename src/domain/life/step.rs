//! The state of a step within a run. Not responsible for: the order of steps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::base::{Digest, LayerName, LeaseId, Platform, Timestamp};
use crate::domain::model::{Fault, FaultClass, FaultKind, Measured, Outcome, Size, StepEnd};

/// The placement of a step, apart from its size: it never uses a lease with another placement.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Placement {
    /// The platform of the runner itself, as offers write it: exactly one, also if the layer is built for several.
    pub platform: Platform,
    /// The cache namespace: a namespace never uses what the builds of another one left on a runner.
    pub namespace: String,
}

/// What a run needs to know about a step from the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepSpec {
    /// The layer.
    pub layer: LayerName,
    /// Its parents among the steps of the run.
    pub parents: Vec<LayerName>,
    /// The image to reuse; `None` if the layer must be built.
    pub reuse: Option<Digest>,
    /// Where it may run.
    pub place: Placement,
    /// The first size, then the larger ones, smallest first. Never empty.
    pub sizes: Vec<Size>,
}

/// The state of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// It waits for its parents.
    Waiting,
    /// Its parents ended well, so it may start.
    Ready,
    /// It waits before another attempt.
    Pausing,
    /// It claims its key.
    Claiming,
    /// It waits for another run that builds its key. It needs no runner for that, and keeps none.
    Contended,
    /// It waits for a runner.
    Leasing,
    /// Its context is brought to the runner.
    Syncing,
    /// BuildKit builds it.
    Building,
    /// Its image is verified.
    Verifying,
    /// Its tags are moved and the history is written.
    Recording,
    /// It has ended.
    Ended,
}

impl StepState {
    /// Whether it counts towards the run's limit on steps.
    pub fn is_active(self) -> bool {
        !matches!(self, Self::Waiting | Self::Ready | Self::Contended | Self::Ended)
    }

    /// Whether the time in it is told with the step's end.
    fn is_timed(self) -> bool {
        !matches!(self, Self::Waiting | Self::Ready | Self::Claiming | Self::Ended)
    }

    /// Whether it has a task that can be killed.
    pub fn is_killable(self) -> bool {
        matches!(self, Self::Claiming | Self::Contended | Self::Syncing | Self::Building | Self::Verifying)
    }

    /// Its name in events.
    pub fn phase(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::Pausing => "pausing",
            Self::Claiming => "claiming",
            Self::Contended => "contended",
            Self::Leasing => "leasing",
            Self::Syncing => "syncing",
            Self::Building => "building",
            Self::Verifying => "verifying",
            Self::Recording => "recording",
            Self::Ended => "ended",
        }
    }
}

/// Why a running step is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CancelReason {
    Stopped,
    OverBudget,
    /// Its runner reached its maximum lifetime.
    Outlived,
    /// It waits for another run, and this one starts nothing more.
    Closed,
}

/// The whole state of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Step {
    pub spec: StepSpec,
    pub state: StepState,
    /// Whether this run has the right to build its key. Each attempt claims it anew.
    #[serde(default)]
    pub claimed: bool,
    pub outcome: Option<Outcome>,
    pub lease: Option<LeaseId>,
    /// Whether its next lease must be a new one, because the age of the last one ended it.
    pub requires_new_lease: bool,
    pub runner_type: Option<String>,
    pub size_index: usize,
    pub attempts: u32,
    pub oom_retries: u32,
    pub infrastructure_retries: u32,
    pub started: Option<Timestamp>,
    pub digest: Option<Digest>,
    pub steps: u32,
    pub cached: u32,
    pub measured: Option<Measured>,
    /// How long it has been in each phase so far, in milliseconds.
    pub phases: BTreeMap<String, u64>,
    /// When it entered its state.
    pub since: Timestamp,
    pub doom: Option<CancelReason>,
    pub fault: Option<FaultKind>,
    /// `None` in journals from before classes existed; then the kind determines the class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault_class: Option<FaultClass>,
}

impl Step {
    pub fn new(spec: StepSpec) -> Self {
        Self {
            spec,
            state: StepState::Waiting,
            claimed: false,
            outcome: None,
            lease: None,
            requires_new_lease: false,
            runner_type: None,
            size_index: 0,
            attempts: 0,
            oom_retries: 0,
            infrastructure_retries: 0,
            started: None,
            digest: None,
            steps: 0,
            cached: 0,
            measured: None,
            phases: BTreeMap::new(),
            since: Timestamp(0),
            doom: None,
            fault: None,
            fault_class: None,
        }
    }

    /// Enters another state and adds up the time that it spent in the last one.
    pub fn enter(&mut self, at: Timestamp, state: StepState) {
        if self.state.is_timed() {
            let took = u64::try_from(at.since(self.since).as_millis()).unwrap_or(u64::MAX);
            *self.phases.entry(self.state.phase().to_owned()).or_default() += took;
        }
        (self.state, self.since) = (state, at);
    }

    /// Whether it holds its claim, and no runner or request for one yet.
    pub fn is_claimed_only(&self) -> bool {
        self.claimed && self.state == StepState::Ready
    }

    pub fn ended_well(&self) -> bool {
        matches!(self.outcome, Some(Outcome::Built | Outcome::Reused))
    }

    /// The class of the fault that it failed with.
    pub fn blame(&self) -> Option<FaultClass> {
        self.fault_class.or_else(|| self.fault.map(FaultKind::class))
    }

    pub fn size(&self) -> &Size {
        &self.spec.sizes[self.size_index.min(self.spec.sizes.len() - 1)]
    }

    /// The next of its sizes with more memory than this many GB.
    pub fn next_size(&self, memory_gb: u32) -> Option<usize> {
        let above = self.spec.sizes.iter().enumerate().skip(self.size_index + 1);
        above.into_iter().find(|(_, size)| size.memory_gb > memory_gb).map(|(index, _)| index)
    }

    /// Its end, as an event.
    pub fn end(&self, at: Timestamp, outcome: Outcome, fault: Option<Fault>, because: Option<LayerName>) -> StepEnd {
        StepEnd {
            layer: self.spec.layer.clone(),
            outcome,
            digest: self.digest.clone().filter(|_| matches!(outcome, Outcome::Built | Outcome::Reused)),
            duration_ms: self
                .started
                .map_or(0, |started| u64::try_from(at.since(started).as_millis()).unwrap_or(u64::MAX)),
            runner_type: self.runner_type.clone(),
            attempts: self.attempts,
            steps: self.steps,
            cached: self.cached,
            measured: self.measured,
            phases: self.phases.clone(),
            fault,
            because,
        }
    }
}
