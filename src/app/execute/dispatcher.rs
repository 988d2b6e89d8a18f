//! The dispatcher's loop: it owns the run and feeds it the results of tasks. Not responsible for: performing effects
//! (see `effects`), long work (see `task_context`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::sync::mpsc::Receiver;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use super::faults::bug;
use super::job::{Job, ParentImage};
use super::mask::Mask;
use super::task_context::{Message, Staging, TaskContext};
use crate::app::sinks::Emitter;
use crate::domain::base::{Digest, LayerName, LeaseId, RunId, Timestamp};
use crate::domain::life::{Input, Run, StopLevel};
use crate::domain::model::{Event, EventBody, Measured, Offer, StepEnd};
use crate::domain::ports::{
    Built, Claim, ComputeProvider, ContextReader, ImageStore, Journal, JournalError, JournalKind, Lease, LeaseMark,
    LeaseRecord, Runner, RunnerConnector,
};
use crate::system::now;
use crate::system::stop::Stop;

/// How long a cancelled build has to end by itself.
const GRACE: std::time::Duration = std::time::Duration::from_secs(5);

/// The ports and settings of a run.
#[derive(Clone)]
pub struct RunServices {
    /// Acquires and releases runners.
    pub provider: Arc<dyn ComputeProvider>,
    /// Connects to them.
    pub runners: Arc<dyn RunnerConnector>,
    /// Stores images.
    pub images: Arc<dyn ImageStore>,
    /// Reads contexts.
    pub contexts: Arc<dyn ContextReader>,
    /// Records what happens.
    pub journal: Arc<dyn Journal>,
    /// Contexts must be inside it.
    pub project_root: std::path::PathBuf,
    /// Maximum lifetime of a lease.
    pub max_lifetime: std::time::Duration,
}

/// The work to execute.
pub struct Work {
    /// The run's id.
    pub id: RunId,
    /// Its state machine, not started yet.
    pub run: Run,
    /// The job of each layer that is built.
    pub jobs: BTreeMap<LayerName, Job>,
    /// The images of the reused layers.
    pub digests: BTreeMap<LayerName, Digest>,
}

/// A run that is over.
#[derive(Debug)]
pub struct Finished {
    /// Its last state.
    pub run: Run,
    /// The image of each layer that succeeded.
    pub digests: BTreeMap<LayerName, Digest>,
}

/// Executes a run. Returns once every lease is released or stuck.
pub async fn execute(work: Work, services: RunServices, emitter: Emitter, mut stops: Receiver<StopLevel>) -> Finished {
    let mut dispatcher = Dispatcher::new(work, services, emitter);
    dispatcher.begin();
    let mut listening = true;
    while !dispatcher.run.is_finished() {
        tokio::select! {
            biased;
            stop = stops.recv(), if listening => match stop {
                Some(level) => dispatcher.feed(Input::Stop { level }),
                None => listening = false,
            },
            () = std::future::ready(()), if !dispatcher.pending.is_empty() => dispatcher.feed_pending(),
            Some(ended) = dispatcher.tasks.join_next_with_id() => dispatcher.ended(ended),
            else => unreachable!("invariant: a run that is not finished waits for something"),
        }
    }
    // Timers that are no longer needed are dropped with the set. Whoever leaves waits for no task.
    if !dispatcher.run.was_left() {
        dispatcher.tasks.shutdown().await;
    }
    Finished { run: dispatcher.run, digests: dispatcher.digests }
}

/// What a task was started for, so that a panic or abort can be reported.
#[derive(Clone)]
pub(super) enum TaskKind {
    Work(LayerName),
    Acquire(LeaseId),
    Release(LeaseId),
    Timer,
}

/// State of a layer's image before promotion.
pub(super) struct StagedBuild {
    pub staged: Staging,
    pub built: Built,
    pub measured: Option<Measured>,
    pub artifacts: Option<(Staging, Digest)>,
    pub built_on: BTreeMap<LayerName, Digest>,
}

/// Owns the run and its resources while it runs.
pub(super) struct Dispatcher {
    pub id: RunId,
    pub run: Run,
    pub jobs: BTreeMap<LayerName, Arc<Job>>,
    pub digests: BTreeMap<LayerName, Digest>,
    pub journal: Arc<dyn Journal>,
    emitter: Emitter,
    pub context: TaskContext,
    pub leases: BTreeMap<LeaseId, (Lease, Arc<dyn Runner>)>,
    /// What is known of each lease at the provider.
    pub records: BTreeMap<LeaseId, LeaseRecord>,
    /// Pending runner requests, with the handle to cancel each.
    pub coming: BTreeMap<LeaseId, Arc<Notify>>,
    /// Keeps other runs from building a key until the step has ended or is tried again.
    claims: BTreeMap<LayerName, Box<dyn Claim>>,
    pub staged_builds: BTreeMap<LayerName, StagedBuild>,
    pub runner_types: BTreeMap<LayerName, String>,
    tasks: JoinSet<Message>,
    kinds: BTreeMap<Id, TaskKind>,
    /// The tasks of steps, with what stops each gently.
    pub working: BTreeMap<LayerName, (AbortHandle, Stop)>,
    pub killing: BTreeSet<LayerName>,
    /// Immediate results of effects: at most one input per effect of the last input.
    pub pending: VecDeque<Input>,
    /// Whether the last input is on disk.
    pub is_journalled: bool,
    pub journal_fault: Option<JournalError>,
    pub max_lifetime: std::time::Duration,
}

/// What to mask in all that a run tells, and a word on what cannot be.
fn mask_of(jobs: &BTreeMap<LayerName, Job>) -> Mask {
    let (mask, open) = Mask::of(jobs.values().flat_map(|job| &job.request.secrets));
    if !open.is_empty() {
        let open: Vec<&str> = open.iter().map(String::as_str).collect();
        tracing::warn!("not masked if a step writes it: {} (secrets of 4 bytes to 512 KiB are)", open.join(", "));
    }
    mask
}

impl Dispatcher {
    fn new(work: Work, services: RunServices, emitter: Emitter) -> Self {
        let Work { id, run, jobs, digests } = work;
        let RunServices { provider, runners, images, contexts, journal, project_root, max_lifetime } = services;
        let (run_id, events) = (id.clone(), emitter.clone());
        let mask = mask_of(&jobs);
        let context =
            TaskContext { provider, runners, images, contexts, project_root, run: run_id, emitter: events, mask };
        Self {
            id,
            run,
            jobs: jobs.into_iter().map(|(layer, job)| (layer, Arc::new(job))).collect(),
            digests,
            journal,
            emitter,
            context,
            leases: BTreeMap::new(),
            records: BTreeMap::new(),
            coming: BTreeMap::new(),
            claims: BTreeMap::new(),
            staged_builds: BTreeMap::new(),
            runner_types: BTreeMap::new(),
            tasks: JoinSet::new(),
            kinds: BTreeMap::new(),
            working: BTreeMap::new(),
            killing: BTreeSet::new(),
            pending: VecDeque::new(),
            is_journalled: false,
            journal_fault: None,
            max_lifetime,
        }
    }

    /// The start is journalled beside the inputs: together they replay the run.
    fn begin(&mut self) {
        let run = serde_json::to_value(&self.run).expect("invariant: a run is plain data");
        self.journal(now(), JournalKind::Start, &run);
        self.feed(Input::Begin);
    }

    /// Passes an input to the run and performs its effects. Inputs are journalled first.
    fn feed(&mut self, input: Input) {
        let at = now();
        self.is_journalled = self.journal(at, JournalKind::Input, &input);
        for effect in self.run.on(at, input) {
            self.perform(at, effect);
        }
    }

    fn feed_pending(&mut self) {
        if let Some(input) = self.pending.pop_front() {
            self.feed(input);
        }
    }

    /// Appends to the journal; returns whether that succeeded.
    fn journal(&mut self, at: Timestamp, kind: JournalKind, value: &impl serde::Serialize) -> bool {
        let json = serde_json::to_string(value).expect("invariant: journal lines are plain data");
        match self.journal.append(at, kind, &json) {
            Ok(()) => true,
            Err(error) => {
                if self.journal_fault.is_none() {
                    tracing::warn!("{error}");
                    self.journal_fault = Some(error);
                }
                false
            }
        }
    }

    /// Writes a lease's state into the ledger; returns whether that succeeded.
    pub fn mark(&mut self, at: Timestamp, lease: &LeaseId, mark: LeaseMark, runner_type: Option<&str>) -> bool {
        match self.journal.lease(at, lease, mark, runner_type) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!("{error}");
                self.journal_fault.get_or_insert(error);
                false
            }
        }
    }

    pub fn emit(&mut self, at: Timestamp, body: EventBody) {
        match &body {
            EventBody::LeaseReleased { lease } => {
                self.mark(at, lease, LeaseMark::Gone, None);
            }
            // A run that was left knows nothing new of its leases: what was held is still held.
            EventBody::LeaseStuck { lease, .. } if !self.run.was_left() => {
                self.mark(at, lease, LeaseMark::Stuck, None);
            }
            EventBody::StepFinished(StepEnd { layer, .. }) | EventBody::StepRetried { layer, .. } => {
                self.claims.remove(layer);
            }
            _ => {}
        }
        self.emitter.emit(Event { at, run: self.id.clone(), body });
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Input(input) => {
                if let Input::Faulted { layer, .. } = &input {
                    // Its build result is no longer needed, and may be gigabytes.
                    self.staged_builds.remove(layer);
                }
                self.feed(input);
            }
            Message::Lease(lease, runner) => {
                let (id, offer) = (lease.id.clone(), lease.offer.clone());
                self.mark(now(), &id, LeaseMark::Held, Some(&offer.runner_type));
                self.leases.insert(id.clone(), (lease, runner));
                let Offer { runner_type, cpu, memory_gb, .. } = offer;
                self.feed(Input::LeaseGranted { lease: id, runner_type, cpu, memory_gb });
            }
            Message::Found { layer, digest } => {
                self.digests.insert(layer.clone(), digest.clone());
                self.feed(Input::Found { layer, digest });
            }
            Message::Claimed { layer, claim } => {
                self.claims.insert(layer.clone(), claim);
                self.feed(Input::Claimed { layer });
            }
            Message::Built { layer, staged, built, measured } => {
                let (digest, steps, cached) = (built.digest.clone(), built.steps, built.cached);
                let built_on = self.parents_of(&layer);
                let staged_build = StagedBuild { staged, built, measured, artifacts: None, built_on };
                self.staged_builds.insert(layer.clone(), staged_build);
                self.feed(Input::BuildDone { layer, digest, steps, cached, measured });
            }
            Message::Verified { layer, artifacts } => {
                if let Some(staged_build) = self.staged_builds.get_mut(&layer) {
                    staged_build.artifacts = artifacts;
                }
                self.feed(Input::Verified { layer });
            }
            // Only what is being killed is stopped, and its end was answered there.
            Message::Stopped => {}
        }
    }

    /// The current images of a layer's parents.
    fn parents_of(&self, layer: &LayerName) -> BTreeMap<LayerName, Digest> {
        let parents = self.jobs.get(layer).map(|job| job.parents.as_slice()).unwrap_or_default();
        let digest = |parent: &ParentImage| Some((parent.layer.clone(), self.digests.get(&parent.layer)?.clone()));
        parents.iter().filter_map(digest).collect()
    }

    pub fn spawn(&mut self, kind: TaskKind, work: impl Future<Output = Message> + Send + 'static) {
        let handle = if let TaskKind::Work(layer) = &kind {
            let stop = Stop::default();
            let guarded = stop.clone().guard(GRACE, work);
            let handle = self.tasks.spawn(async move { guarded.await.unwrap_or(Message::Stopped) });
            self.working.insert(layer.clone(), (handle.clone(), stop));
            handle
        } else {
            self.tasks.spawn(work)
        };
        self.kinds.insert(handle.id(), kind);
    }

    /// Handles the end of a task: by message, by abort after a `Kill`, or by panic.
    fn ended(&mut self, ended: Result<(Id, Message), JoinError>) {
        let error = match ended {
            Ok((task, message)) => {
                if let Some(TaskKind::Work(layer)) = self.kinds.remove(&task) {
                    self.working.remove(&layer);
                    if self.killing.remove(&layer) {
                        // It ended before the kill took effect: its result is no longer needed.
                        drop(message);
                        self.staged_builds.remove(&layer);
                        return self.feed(Input::Killed { layer });
                    }
                }
                return self.take(message);
            }
            Err(error) => error,
        };
        let Some(kind) = self.kinds.remove(&error.id()) else { return };
        let aborted = error.is_cancelled();
        match kind {
            TaskKind::Work(layer) => {
                self.working.remove(&layer);
                self.staged_builds.remove(&layer);
                if self.killing.remove(&layer) || aborted {
                    self.feed(Input::Killed { layer });
                } else {
                    self.feed(Input::Faulted { layer, fault: bug(&error.to_string()) });
                }
            }
            TaskKind::Acquire(lease) => self.feed(Input::LeaseRefused { lease, fault: bug(&error.to_string()) }),
            TaskKind::Release(lease) => {
                self.feed(Input::ReleaseFailed { lease, message: error.to_string(), is_final: false });
            }
            TaskKind::Timer => {}
        }
    }
}
