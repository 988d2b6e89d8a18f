//! Performs the run's effects: each starts a task or is answered at once. Not responsible for: when, and how results
//! are handled (see `dispatcher`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::dispatcher::{Dispatcher, TaskKind};
use super::faults::bug;
use super::ledger;
use super::task_context::{Message, Staging, StepTask};
use crate::domain::base::{LayerName, LeaseId, Timestamp};
use crate::domain::life::{Effect, Input};
use crate::domain::model::ImageRecord;
use crate::domain::ports::{AcquireRequest, BuildRecord, Built, ImageSource, LeaseMark, Staged, StagedAt};

impl Dispatcher {
    pub fn perform(&mut self, at: Timestamp, effect: Effect) {
        match effect {
            Effect::Emit(body) => self.emit(at, *body),
            Effect::Acquire { lease, layer, size, place } => {
                let (platform, lifetime, run) = (place.platform, self.max_lifetime, self.id.clone());
                let authorized_key = None;
                self.acquire(at, AcquireRequest { lease, run, layer, size, platform, lifetime, authorized_key });
            }
            Effect::Abandon { lease } => {
                if let Some(abandoned) = self.coming.remove(&lease) {
                    abandoned.notify_one();
                }
            }
            Effect::Claim { layer } => self.claim(layer, false),
            Effect::AwaitClaim { layer } => self.claim(layer, true),
            Effect::Sync { layer, lease } => self.sync(layer, &lease),
            Effect::Build { layer, lease } => self.build(layer, &lease),
            Effect::Verify { layer, lease } => self.verify(layer, &lease),
            Effect::Promote { layer } => self.promote(layer),
            Effect::Record { layer, duration, phases } => self.record(at, layer, duration, phases),
            Effect::Kill { layer, hard } => match self.working.get(&layer) {
                // The end of the task is the answer, however it ends.
                Some((task, stop)) => {
                    if hard {
                        task.abort()
                    } else {
                        stop.request()
                    }
                    self.killing.insert(layer);
                }
                None => self.answer(Input::Killed { layer }),
            },
            Effect::Release { lease } => {
                self.leases.remove(&lease);
                self.coming.remove(&lease);
                let record = self.records.get(&lease).cloned().unwrap_or_default();
                let work = self.context.clone().release(lease.clone(), record);
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

    /// An effect's immediate result, passed to the run after the other effects.
    fn answer(&mut self, input: Input) {
        self.pending.push_back(input);
    }

    /// The inputs so far and the intent must be on disk before the request; otherwise no request is made.
    fn acquire(&mut self, at: Timestamp, request: AcquireRequest) {
        let written =
            self.is_journalled && self.mark(at, &request.lease, LeaseMark::Asked, Some(&request.size.runner_type));
        if written {
            let lease = request.lease.clone();
            let abandoned = Arc::new(Notify::new());
            self.coming.insert(lease.clone(), Arc::clone(&abandoned));
            let record = ledger::record(&self.journal, &lease);
            self.records.insert(lease.clone(), record.clone());
            let work = self.context.clone().acquire(request, record, abandoned);
            self.spawn(TaskKind::Acquire(lease), work);
        } else {
            // Nothing was rented.
            let fault = ledger::unwritten(self.journal_fault.as_ref());
            self.answer(Input::LeaseRefused { lease: request.lease, fault });
        }
    }

    /// Starts a layer's job on its runner; fails the layer if either is missing.
    fn step_task(&mut self, layer: LayerName, lease: &LeaseId) -> Option<StepTask> {
        let (job, runner) = (self.jobs.get(&layer).cloned(), self.leases.get(lease));
        match (job, runner.map(|(_, runner)| Arc::clone(runner))) {
            (Some(job), Some(runner)) => Some(StepTask { layer, job, runner }),
            _ => {
                self.answer(Input::Faulted { layer, fault: bug("a step without a job or a lease was started") });
                None
            }
        }
    }

    /// Claims a layer's key; `waits` while another run builds it.
    fn claim(&mut self, layer: LayerName, waits: bool) {
        let Some(job) = self.jobs.get(&layer).cloned() else {
            return self.answer(Input::Faulted { layer, fault: bug("a step without a job was claimed") });
        };
        let work = self.context.clone().claim(layer.clone(), job, self.digests.clone(), waits);
        self.spawn(TaskKind::Work(layer), work);
    }

    fn sync(&mut self, layer: LayerName, lease: &LeaseId) {
        if let Some(step) = self.step_task(layer.clone(), lease) {
            let work = self.context.clone().sync(step);
            self.spawn(TaskKind::Work(layer), work);
        }
    }

    fn build(&mut self, layer: LayerName, lease: &LeaseId) {
        let Some(step) = self.step_task(layer.clone(), lease) else { return };
        if let Some((lease, _)) = self.leases.get(lease) {
            self.runner_types.insert(layer.clone(), lease.offer.runner_type.clone());
        }
        let work = self.context.clone().build(step, self.digests.clone());
        self.spawn(TaskKind::Work(layer), work);
    }

    fn verify(&mut self, layer: LayerName, lease: &LeaseId) {
        let Some(step) = self.step_task(layer.clone(), lease) else { return };
        let Some(staged_build) = self.staged_builds.get(&layer) else {
            return self.answer(Input::Faulted { layer, fault: bug("a step without an image was verified") });
        };
        let digest = staged_build.built.digest.clone();
        let image = match &step.job.request.push {
            Some(_) => self.context.images.source(step.job.image.as_str(), &digest),
            None => ImageSource::Layout { dir: staged_build.staged.path().to_owned(), digest },
        };
        let platforms = staged_build.built.platforms.clone();
        let work = self.context.clone().verify(step, image, platforms);
        self.spawn(TaskKind::Work(layer), work);
    }

    fn promote(&mut self, layer: LayerName) {
        let (Some(job), Some(staged_build)) = (self.jobs.get(&layer), self.staged_builds.get(&layer)) else {
            return self.answer(Input::Faulted { layer, fault: bug("a step without an image was promoted") });
        };
        let artifacts = staged_build.artifacts.as_ref();
        let at = |folder: &Staging| match &job.request.push {
            Some(_) => StagedAt::Pushed,
            None => StagedAt::Folder(folder.path().to_owned()),
        };
        let staged = Staged {
            name: job.image.clone(),
            staging: at(&staged_build.staged),
            digest: staged_build.built.digest.clone(),
            key: job.key.clone(),
            record: ImageRecord { parts: job.parts.clone(), built_on: staged_build.built_on.clone() },
            artifacts: artifacts.map(|(folder, digest)| (at(folder), digest.clone())),
        };
        let mut keep = vec![Arc::clone(&staged_build.staged)];
        keep.extend(artifacts.map(|(folder, _)| Arc::clone(folder)));
        let cache = job.request.caches.repository.clone();
        let work = self.context.clone().promote((layer.clone(), cache), staged, keep);
        self.spawn(TaskKind::Work(layer), work);
    }

    fn record(&mut self, at: Timestamp, layer: LayerName, duration: Duration, phases: BTreeMap<String, u64>) {
        if let (Some(job), Some(staged_build)) = (self.jobs.get(&layer), self.staged_builds.remove(&layer)) {
            let (Built { digest, steps, cached, .. }, measured) = (staged_build.built, staged_build.measured);
            self.digests.insert(layer.clone(), digest.clone());
            let runner_type = self.runner_types.get(&layer).cloned().unwrap_or_default();
            let (layer, key) = (layer.clone(), job.key.clone());
            let record = BuildRecord { layer, key, digest, duration, phases, steps, cached, runner_type, measured, at };
            if let Err(error) = self.journal.record(&record) {
                // The image is promoted: a failure to write the history does not undo that.
                tracing::warn!("{error}");
            }
        }
        self.answer(Input::Recorded { layer });
    }
}
