//! The dispatcher's loop: one owner of the run, one queue of messages. Not responsible for: long work (see `tasks`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::{AbortHandle, JoinSet};

use super::job::{Job, ParentImage};
use super::tasks::{Message, Staging, TaskContext, bug};
use crate::domain::base::{Digest, LayerName, LeaseId, RunId, Timestamp};
use crate::domain::life::{Effect, Input, Placement, Run, StopLevel};
use crate::domain::model::{Event, EventBody, Fault, FaultKind, ImageRecord, Measured, Offer, Size};
use crate::domain::ports::{
    AcquireRequest, BuildRecord, Built, Claim, ComputeProvider, ContextReader, ImageSource, ImageStore, Journal,
    JournalError, JournalKind, Lease, LeaseMark, Observer, Runner, RunnerConnector, Staged, StagedAt,
};
use crate::system::now;

/// What a run is carried out with.
#[derive(Clone)]
pub struct RunServices {
    /// Rents runners.
    pub provider: Arc<dyn ComputeProvider>,
    /// Reaches them.
    pub runners: Arc<dyn RunnerConnector>,
    /// Keeps images.
    pub images: Arc<dyn ImageStore>,
    /// Reads contexts.
    pub contexts: Arc<dyn ContextReader>,
    /// Writes down what happens.
    pub journal: Arc<dyn Journal>,
    /// Contexts stay inside it.
    pub project_root: std::path::PathBuf,
    /// No lease lives longer.
    pub max_lifetime: std::time::Duration,
}

/// A run that is over.
#[derive(Debug)]
pub struct Finished {
    /// Its last state.
    pub run: Run,
    /// The image of each layer that ended well.
    pub digests: BTreeMap<LayerName, Digest>,
}

/// Carries a run out. `digests` are the images of layers that are reused. Returns when every lease is gone or stuck.
pub async fn drive(
    id: RunId,
    run: Run,
    jobs: BTreeMap<LayerName, Job>,
    digests: BTreeMap<LayerName, Digest>,
    world: RunServices,
    observer: &mut dyn Observer,
    mut stops: UnboundedReceiver<StopLevel>,
) -> Finished {
    let (sender, mut messages) = mpsc::unbounded_channel();
    let jobs = jobs.into_iter().map(|(layer, job)| (layer, Arc::new(job))).collect();
    let mut dispatcher = Dispatcher::new(id, run, jobs, digests, world, observer, sender);
    dispatcher.begin();
    let mut listening = true;
    while !dispatcher.run.is_finished() {
        tokio::select! {
            biased;
            stop = stops.recv(), if listening => match stop {
                Some(level) => dispatcher.feed(Input::Stop { level }),
                None => listening = false,
            },
            Some(message) = messages.recv() => dispatcher.take(message),
            Some(ended) = dispatcher.tasks.join_next_with_id() => dispatcher.ended(ended),
        }
    }
    // What was reported before the end is shown; timers that nobody waits for are dropped with the set.
    while let Ok(message) = messages.try_recv() {
        if let Message::Progress { .. } = message {
            dispatcher.take(message);
        }
    }
    dispatcher.tasks.shutdown().await;
    Finished { run: dispatcher.run, digests: dispatcher.digests }
}

/// What a task was started for: known when it panics or is aborted.
#[derive(Clone)]
enum TaskKind {
    Work(LayerName),
    Acquire(LeaseId),
    Release(LeaseId),
    Timer,
}

/// What is known of a layer's image on its way to promotion.
struct StagedBuild {
    staged: Staging,
    built: Built,
    measured: Option<Measured>,
    artifacts: Option<(Staging, Digest)>,
    built_on: BTreeMap<LayerName, Digest>,
    /// Nobody else builds the key until its image is promoted or given up.
    _claim: Box<dyn Claim>,
}

struct Dispatcher<'a> {
    id: RunId,
    run: Run,
    jobs: BTreeMap<LayerName, Arc<Job>>,
    digests: BTreeMap<LayerName, Digest>,
    journal: Arc<dyn Journal>,
    observer: &'a mut dyn Observer,
    hands: TaskContext,
    sender: UnboundedSender<Message>,
    leases: BTreeMap<LeaseId, (Lease, Arc<dyn Runner>)>,
    /// RunnerConnector that are asked for, and how to say that they are not wanted any more.
    coming: BTreeMap<LeaseId, Arc<Notify>>,
    staged_builds: BTreeMap<LayerName, StagedBuild>,
    runner_types: BTreeMap<LayerName, String>,
    tasks: JoinSet<Message>,
    errands: BTreeMap<tokio::task::Id, TaskKind>,
    working: BTreeMap<LayerName, AbortHandle>,
    killing: BTreeSet<LayerName>,
    journal_fault: Option<JournalError>,
    max_lifetime: std::time::Duration,
}

impl<'a> Dispatcher<'a> {
    fn new(
        id: RunId,
        run: Run,
        jobs: BTreeMap<LayerName, Arc<Job>>,
        digests: BTreeMap<LayerName, Digest>,
        world: RunServices,
        observer: &'a mut dyn Observer,
        sender: UnboundedSender<Message>,
    ) -> Self {
        let RunServices { provider, runners, images, contexts, journal, project_root, max_lifetime } = world;
        let hands = TaskContext { provider, runners, images, contexts, project_root, messages: sender.clone() };
        Self {
            id,
            run,
            jobs,
            digests,
            journal,
            observer,
            hands,
            sender,
            leases: BTreeMap::new(),
            coming: BTreeMap::new(),
            staged_builds: BTreeMap::new(),
            runner_types: BTreeMap::new(),
            tasks: JoinSet::new(),
            errands: BTreeMap::new(),
            working: BTreeMap::new(),
            killing: BTreeSet::new(),
            journal_fault: None,
            max_lifetime,
        }
    }

    /// What the run begins with is written down beside what it is told: the two together replay it.
    fn begin(&mut self) {
        let run = serde_json::to_value(&self.run).expect("invariant: a run is plain data");
        self.write(now(), JournalKind::Start, &run);
        self.feed(Input::Begin);
    }

    /// Tells the run what happened and performs what it wants. Inputs are journalled before they count.
    fn feed(&mut self, input: Input) {
        let at = now();
        self.write(at, JournalKind::Input, &input);
        for effect in self.run.on(at, input) {
            self.perform(at, effect);
        }
    }

    fn write(&mut self, at: Timestamp, kind: JournalKind, value: &impl serde::Serialize) -> bool {
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

    fn take(&mut self, message: Message) {
        match message {
            Message::Input(input) => {
                if let Input::Faulted { layer, .. } = &input {
                    // What it had built is worth nothing any more, and may be gigabytes.
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
            Message::Built { layer, staged, built, measured, claim } => {
                let (digest, steps, cached) = (built.digest.clone(), built.steps, built.cached);
                let built_on = self.parents_of(&layer);
                let staged_builds = StagedBuild { staged, built, measured, artifacts: None, built_on, _claim: claim };
                self.staged_builds.insert(layer.clone(), staged_builds);
                self.feed(Input::BuildDone { layer, digest, steps, cached, measured });
            }
            Message::Verified { layer, artifacts } => {
                if let Some(staged_builds) = self.staged_builds.get_mut(&layer) {
                    staged_builds.artifacts = artifacts;
                }
                self.feed(Input::Verified { layer });
            }
            Message::Progress { layer, progress } => {
                self.journal.progress(&layer, &progress);
                let body = EventBody::StepProgress { layer, progress };
                self.observer.event(&Event { at: now(), run: self.id.clone(), body });
            }
        }
    }

    /// A task ended: by its message, by an abort that a `Kill` asked for, or by a panic.
    fn ended(&mut self, ended: Result<(tokio::task::Id, Message), tokio::task::JoinError>) {
        let error = match ended {
            Ok((task, message)) => {
                if let Some(TaskKind::Work(layer)) = self.errands.remove(&task) {
                    self.working.remove(&layer);
                    if self.killing.remove(&layer) {
                        // It ended by itself before the kill reached it: what came of it is not wanted any more.
                        drop(message);
                        self.staged_builds.remove(&layer);
                        return self.feed(Input::Killed { layer });
                    }
                }
                return self.take(message);
            }
            Err(error) => error,
        };
        let Some(errand) = self.errands.remove(&error.id()) else { return };
        let aborted = error.is_cancelled();
        match errand {
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
            TaskKind::Release(lease) => self.feed(Input::ReleaseFailed { lease, message: error.to_string() }),
            TaskKind::Timer => {}
        }
    }

    fn spawn(&mut self, errand: TaskKind, work: impl Future<Output = Message> + Send + 'static) {
        let handle = self.tasks.spawn(work);
        if let TaskKind::Work(layer) = &errand {
            self.working.insert(layer.clone(), handle.clone());
        }
        self.errands.insert(handle.id(), errand);
    }

    fn send(&self, input: Input) {
        self.sender.send(Message::Input(input)).expect("invariant: the dispatcher holds the receiving end");
    }

    fn perform(&mut self, at: Timestamp, effect: Effect) {
        match effect {
            Effect::Emit(body) => self.emit(at, *body),
            Effect::Acquire { lease, layer, size, place } => self.acquire(at, (lease, layer), size, place),
            Effect::Abandon { lease } => {
                if let Some(abandoned) = self.coming.remove(&lease) {
                    abandoned.notify_one();
                }
            }
            Effect::Sync { layer, lease } => self.sync(layer, &lease),
            Effect::Build { layer, lease } => self.build(layer, &lease),
            Effect::Verify { layer, lease } => self.verify(layer, &lease),
            Effect::Promote { layer } => self.promote(layer),
            Effect::Record { layer, duration, phases } => self.record(at, layer, duration, phases),
            Effect::Kill { layer, .. } => match self.working.get(&layer) {
                // The task's end, however it comes, is the answer.
                Some(task) => {
                    task.abort();
                    self.killing.insert(layer);
                }
                None => self.send(Input::Killed { layer }),
            },
            Effect::Release { lease } => {
                self.leases.remove(&lease);
                self.coming.remove(&lease);
                let work = self.hands.clone().release(lease.clone());
                self.spawn(TaskKind::Release(lease), work);
            }
            Effect::Arm { timer, after } => {
                self.spawn(TaskKind::Timer, async move {
                    tokio::time::sleep(after).await;
                    Message::Input(Input::TimerFired { timer })
                });
            }
            Effect::Finish => {}
        }
    }

    fn emit(&mut self, at: Timestamp, body: EventBody) {
        match &body {
            EventBody::LeaseReleased { lease } => self.mark(at, lease, LeaseMark::Gone, None),
            EventBody::LeaseStuck { lease, .. } => self.mark(at, lease, LeaseMark::Stuck, None),
            _ => true,
        };
        let event = Event { at, run: self.id.clone(), body };
        self.write(at, JournalKind::Event, &event);
        self.observer.event(&event);
    }

    /// The intent is on disk before anything is asked for; where it cannot be, nothing is.
    fn acquire(&mut self, at: Timestamp, (lease, layer): (LeaseId, LayerName), size: Size, place: Placement) {
        let platform = place.platform;
        let expires = at.plus(self.max_lifetime);
        let run = self.id.clone();
        let request = AcquireRequest { lease, run, layer, size, platform, expires, authorized_key: None };
        let intent = serde_json::json!({ "effect": "acquire", "lease": request.lease, "layer": request.layer });
        let written = self.write(at, JournalKind::Effect, &intent)
            && self.mark(at, &request.lease, LeaseMark::Asked, Some(&request.size.runner_type));
        if written {
            let lease = request.lease.clone();
            let abandoned = Arc::new(Notify::new());
            self.coming.insert(lease.clone(), Arc::clone(&abandoned));
            let work = self.hands.clone().acquire(request, abandoned);
            self.spawn(TaskKind::Acquire(lease), work);
        } else {
            let error = self.journal_fault.as_ref();
            let message = error.map_or_else(String::new, ToString::to_string);
            let help = error.map_or_else(String::new, |error| error.help.clone());
            let fault = Fault::new(FaultKind::Missing, "lian::store::journal", message).help(help);
            self.send(Input::LeaseRefused { lease: request.lease, fault });
        }
    }

    /// Writes into the ledger how a lease stands; says whether that was possible.
    fn mark(&mut self, at: Timestamp, lease: &LeaseId, mark: LeaseMark, runner_type: Option<&str>) -> bool {
        match self.journal.lease(at, lease, mark, runner_type) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!("{error}");
                self.journal_fault.get_or_insert(error);
                false
            }
        }
    }

    fn sync(&mut self, layer: LayerName, lease: &LeaseId) {
        let (Some(job), Some((_, runner))) = (self.jobs.get(&layer).cloned(), self.leases.get(lease).cloned()) else {
            return self.send(Input::Faulted { layer, fault: bug("a step without a job or a lease was synced") });
        };
        let work = self.hands.clone().sync(layer.clone(), job, runner);
        self.spawn(TaskKind::Work(layer), work);
    }

    fn build(&mut self, layer: LayerName, lease: &LeaseId) {
        let (Some(job), Some((lease, runner))) = (self.jobs.get(&layer).cloned(), self.leases.get(lease).cloned())
        else {
            return self.send(Input::Faulted { layer, fault: bug("a step without a job or a lease was started") });
        };
        self.runner_types.insert(layer.clone(), lease.offer.runner_type.clone());
        let work = self.hands.clone().build(layer.clone(), job, runner, self.digests.clone());
        self.spawn(TaskKind::Work(layer), work);
    }

    /// The images that a layer is built on at this moment.
    fn parents_of(&self, layer: &LayerName) -> BTreeMap<LayerName, Digest> {
        let parents = self.jobs.get(layer).map(|job| job.parents.as_slice()).unwrap_or_default();
        let digest = |parent: &ParentImage| Some((parent.layer.clone(), self.digests.get(&parent.layer)?.clone()));
        parents.iter().filter_map(digest).collect()
    }

    fn verify(&mut self, layer: LayerName, lease: &LeaseId) {
        let (Some(job), Some((_, runner)), Some(staged_builds)) =
            (self.jobs.get(&layer).cloned(), self.leases.get(lease).cloned(), self.staged_builds.get(&layer))
        else {
            return self.send(Input::Faulted { layer, fault: bug("a step without an image was verified") });
        };
        let digest = staged_builds.built.digest.clone();
        let image = match &job.request.push {
            Some(_) => self.hands.images.source(&job.image, &digest),
            None => ImageSource::Layout { dir: staged_builds.staged.path().to_owned(), digest },
        };
        let platform = staged_builds.built.platform.clone();
        let work = self.hands.clone().verify(layer.clone(), job, runner, image, platform);
        self.spawn(TaskKind::Work(layer), work);
    }

    fn promote(&mut self, layer: LayerName) {
        let (Some(job), Some(staged_builds)) = (self.jobs.get(&layer), self.staged_builds.get(&layer)) else {
            return self.send(Input::Faulted { layer, fault: bug("a step without an image was promoted") });
        };
        let artifacts = staged_builds.artifacts.as_ref();
        let at = |folder: &Staging| match &job.request.push {
            Some(_) => StagedAt::Pushed,
            None => StagedAt::Folder(folder.path().to_owned()),
        };
        let staged = Staged {
            name: job.image.clone(),
            staging: at(&staged_builds.staged),
            digest: staged_builds.built.digest.clone(),
            key: job.key.clone(),
            record: ImageRecord { parts: job.parts.clone(), built_on: staged_builds.built_on.clone() },
            artifacts: artifacts.map(|(folder, digest)| (at(folder), digest.clone())),
        };
        let mut keep = vec![Arc::clone(&staged_builds.staged)];
        keep.extend(artifacts.map(|(folder, _)| Arc::clone(folder)));
        let work = self.hands.clone().promote(layer.clone(), staged, keep);
        self.spawn(TaskKind::Work(layer), work);
    }

    fn record(
        &mut self,
        at: Timestamp,
        layer: LayerName,
        duration: std::time::Duration,
        phases: BTreeMap<String, u64>,
    ) {
        if let (Some(job), Some(staged_builds)) = (self.jobs.get(&layer), self.staged_builds.remove(&layer)) {
            let (Built { digest, steps, cached, .. }, measured) = (staged_builds.built, staged_builds.measured);
            self.digests.insert(layer.clone(), digest.clone());
            let runner_type = self.runner_types.get(&layer).cloned().unwrap_or_default();
            let key = job.key.clone();
            let layer = layer.clone();
            let record = BuildRecord { layer, key, digest, duration, phases, steps, cached, runner_type, measured, at };
            if let Err(error) = self.journal.record(&record) {
                // The image is promoted: a gap in the history does not undo that.
                tracing::warn!("{error}");
            }
        }
        self.send(Input::Recorded { layer });
    }
}
