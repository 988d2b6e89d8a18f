//! Runs each long effect as a future that ends in one message. Not responsible for: changing the run.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Notify;

use super::faults::{bug, context_moved, store_fault};
use super::job::{Job, moved, stored_image};
use super::mask::{Mask, MaskedReports};
use super::measure::measured;
use crate::app::sinks::Emitter;
use crate::domain::base::{Digest, LayerName, LeaseId, Platform, Platforms, RunId};
use crate::domain::life::Input;
use crate::domain::model::{BuildEvent, Event, EventBody, Fault, FaultKind, KEY_LABEL, LATEST, Measured};
use crate::domain::ports::{
    AcquireRequest, Built, Claim, ComputeProvider, ContextReader, ImageConfig, ImageSource, ImageStore, Lease,
    LeaseRecord, Runner, RunnerConnector, Staged, StagingFolder, VerifyRequest,
};
use crate::system::error_chain::with_causes;
use crate::system::now;

/// A message from a task to the dispatcher.
pub enum Message {
    /// An input for the run.
    Input(Input),
    /// A runner was granted: reported to the run; the dispatcher keeps the runner.
    Lease(Lease, Arc<dyn Runner>),
    /// A build succeeded: reported to the run; the dispatcher keeps the staging folder.
    Built { layer: LayerName, staged: Staging, built: Built, measured: Option<Measured> },
    /// A key is claimed: reported to the run; the dispatcher keeps the claim.
    Claimed { layer: LayerName, claim: Box<dyn Claim> },
    /// Another run has built the same key meanwhile: its image is used.
    Found { layer: LayerName, digest: Digest },
    /// An image passed verification: reported to the run; the dispatcher keeps the artifacts image.
    Verified { layer: LayerName, artifacts: Option<(Staging, Digest)> },
    /// The task was stopped.
    Stopped,
}

/// How often to check whether a claimed key is free.
const CLAIM_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// A staging folder, shared between a task and the dispatcher.
pub type Staging = Arc<dyn StagingFolder>;

/// The ports and settings that tasks use.
#[derive(Clone)]
pub struct TaskContext {
    pub provider: Arc<dyn ComputeProvider>,
    pub runners: Arc<dyn RunnerConnector>,
    pub images: Arc<dyn ImageStore>,
    pub contexts: Arc<dyn ContextReader>,
    pub project_root: std::path::PathBuf,
    pub run: RunId,
    pub emitter: Emitter,
    /// The secrets of all steps: what one was given, another may write, too.
    pub mask: Mask,
}

/// One layer's work on one runner.
pub struct StepTask {
    pub layer: LayerName,
    pub job: Arc<Job>,
    pub runner: Arc<dyn Runner>,
}

impl TaskContext {
    /// Acquires a runner and connects to it. Stops waiting once the request is cancelled.
    pub async fn acquire(self, request: AcquireRequest, record: LeaseRecord, abandoned: Arc<Notify>) -> Message {
        let unwanted = || {
            let message = "the runner is not wanted any more";
            Fault::new(FaultKind::Infrastructure, "lian::drive::abandoned", message)
        };
        // The release that follows finds whatever a dropped request created, by the record and the lease's id.
        let reached = async {
            let rented = tokio::select! {
                rented = self.provider.acquire(&request, &record) => rented,
                () = abandoned.notified() => return Err(unwanted()),
            };
            let lease = rented?;
            // A machine that only this process knows is not used: it would outlive a kill of this process.
            record.fault().map_or(Ok(()), Err)?;
            let runner = tokio::select! {
                runner = self.runners.reach(&lease) => runner?,
                () = abandoned.notified() => return Err(unwanted()),
            };
            Ok((lease, runner))
        };
        match reached.await {
            Ok((lease, runner)) => Message::Lease(lease, runner),
            Err(fault) => Message::Input(Input::LeaseRefused { lease: request.lease, fault }),
        }
    }

    /// Transfers a layer's context.
    pub async fn sync(self, StepTask { layer, job, runner }: StepTask) -> Message {
        let reports = self.mask.reports();
        let synced = runner.sync(&job.request, &self.sink(&layer, &reports)).await;
        Message::Input(match synced {
            Ok(()) => Input::Synced { layer },
            Err(fault) => Input::Faulted { layer, fault: self.mask.fault(fault) },
        })
    }

    /// Builds a layer into a new staging folder, then checks whether its context has changed.
    pub async fn build(self, step: StepTask, digests: BTreeMap<LayerName, Digest>) -> Message {
        let built = self.built(&step, &digests).await;
        let layer = step.layer;
        match built {
            Ok((staged, built, measured)) => Message::Built { layer, staged, built, measured },
            Err(fault) => Message::Input(Input::Faulted { layer, fault: self.mask.fault(fault) }),
        }
    }

    async fn built(
        &self,
        StepTask { layer, job, runner }: &StepTask,
        digests: &BTreeMap<LayerName, Digest>,
    ) -> Result<(Staging, Built, Option<Measured>), Fault> {
        let staged = self.staging().await?;
        let mut request = job.request_with(&*self.images, digests, staged.path()).await?;
        let copy = self.told_apart(job).await?;
        if let Some(copy) = &copy {
            copy.path().clone_into(&mut request.context);
        }
        let reports = self.mask.reports();
        let (builder, sink) = (runner.builder(), self.sink(layer, &reports));
        let (contexts, root, again) = (Arc::clone(&self.contexts), self.project_root.clone(), Arc::clone(job));
        let look =
            async { blocking(move || contexts.list(&root, &again.request.context, &again.request.dockerfile)).await };
        let (built, after, measured) = measured(&**runner, &sink, builder.build(&request, &sink), look).await;
        reports.rest().into_iter().for_each(|report| self.report(layer, report));
        let built = built?;
        let after = after?.map_err(|error| context_moved(with_causes(&error)))?;
        match moved(&job.listing, &after) {
            Some(fault) => Err(fault),
            None => Ok((staged, built, measured)),
        }
    }

    /// A copy of the context whose files a builder cannot mistake for others, if it needs one.
    async fn told_apart(&self, job: &Arc<Job>) -> Result<Option<Box<dyn StagingFolder>>, Fault> {
        let (contexts, job) = (Arc::clone(&self.contexts), Arc::clone(job));
        let copied = blocking(move || contexts.told_apart(&job.request.context, &job.listing)).await?;
        copied.map_err(|error| context_moved(with_causes(&error)))
    }

    /// Claims the right to build a layer's key, and looks whether another run has built it meanwhile. While another run
    /// builds it, it `waits` or says so.
    pub async fn claim(
        self,
        layer: LayerName,
        job: Arc<Job>,
        digests: BTreeMap<LayerName, Digest>,
        waits: bool,
    ) -> Message {
        let claimed = async {
            let claim = loop {
                let claim = self.images.claim(&job.key).await.map_err(|error| store_fault("staging", &error))?;
                match claim {
                    Some(claim) => break claim,
                    None if waits => tokio::time::sleep(CLAIM_PAUSE).await,
                    None => return Ok(Message::Input(Input::ClaimTaken { layer: layer.clone() })),
                }
            };
            Ok(match self.built_meanwhile(&job, &digests).await? {
                Some(digest) => Message::Found { layer: layer.clone(), digest },
                None => Message::Claimed { layer: layer.clone(), claim },
            })
        };
        claimed.await.unwrap_or_else(|fault| Message::Input(Input::Faulted { layer: layer.clone(), fault }))
    }

    /// The image of this key that another run promoted since planning, or that was there before and stands on the
    /// parents' images all the same. It becomes the latest one, because it is the catalog's current state.
    async fn built_meanwhile(&self, job: &Job, digests: &BTreeMap<LayerName, Digest>) -> Result<Option<Digest>, Fault> {
        if job.forced {
            return Ok(None);
        }
        let (image, key) = (&job.image, &job.key);
        let fault = |error| store_fault("find", &error);
        let found = stored_image(&*self.images, image, key, !job.artifact_paths.is_empty()).await.map_err(fault)?;
        let same = |(layer, digest): (&LayerName, &Digest)| digests.get(layer) == Some(digest);
        let Some(found) = found.filter(|found| found.built_on.iter().all(same)) else { return Ok(None) };
        self.images.point(image.as_str(), LATEST, key).await.map_err(fault)?;
        Ok(Some(found.digest))
    }

    /// Verifies a built image and creates its artifacts image.
    pub async fn verify(self, step: StepTask, image: ImageSource, platforms: Platforms) -> Message {
        let verified = self.verified(&step.job, &step.runner, image, platforms).await;
        let layer = step.layer;
        match verified {
            Ok(artifacts) => Message::Verified { layer, artifacts },
            Err(fault) => Message::Input(Input::Faulted { layer, fault: self.mask.fault(fault) }),
        }
    }

    async fn verified(
        &self,
        job: &Job,
        runner: &Arc<dyn Runner>,
        image: ImageSource,
        platforms: Platforms,
    ) -> Result<Option<(Staging, Digest)>, Fault> {
        if job.tools.is_empty() && job.artifact_paths.is_empty() {
            return Ok(None);
        }
        let staged = self.staging().await?;
        let configs = self.configs(job, &image, &platforms).await?;
        let pushed = job.request.push.is_some();
        let push_artifacts = pushed.then(|| self.images.push_target(job.image.artifacts().as_str())).flatten();
        let request = VerifyRequest {
            image,
            platforms,
            tools: job.tools.clone(),
            artifact_paths: job.artifact_paths.clone(),
            staging: staged.path().to_owned(),
            push_artifacts,
            labels: BTreeMap::from([(KEY_LABEL.to_owned(), job.key.to_string())]),
            configs,
        };
        let artifacts = runner.builder().verify(&request).await?;
        Ok(artifacts.map(|digest| (staged, digest)))
    }

    /// The configs of an image that its builder pushed: the builder has no copy to read.
    async fn configs(
        &self,
        job: &Job,
        image: &ImageSource,
        platforms: &Platforms,
    ) -> Result<BTreeMap<Platform, ImageConfig>, Fault> {
        let ImageSource::Registry { digest, .. } = image else { return Ok(BTreeMap::new()) };
        let mut configs = BTreeMap::new();
        for platform in platforms.iter() {
            let config = self.images.config(job.image.as_str(), digest, platform).await;
            if let Some(config) = config.map_err(|error| store_fault("find", &error))? {
                configs.insert(platform.clone(), config);
            }
        }
        Ok(configs)
    }

    /// Moves the tags, and has the cache that was written count with the image.
    pub async fn promote(
        self,
        (layer, cache): (LayerName, Option<String>),
        staged: Staged,
        keep: Vec<Staging>,
    ) -> Message {
        let promoted = self.images.promote(&staged).await;
        if let (Ok(()), Some(cache)) = (&promoted, cache) {
            self.promote_cache(&layer, &cache).await;
        }
        let removed = blocking(move || drop(keep)).await;
        let input = match promoted.map_err(|error| store_fault("promote", &error)).and(removed) {
            Ok(()) => Input::Promoted { layer },
            Err(fault) => Input::Faulted { layer, fault },
        };
        Message::Input(input)
    }

    /// A cache that cannot be kept makes the next build slower, and is no fault of this one.
    async fn promote_cache(&self, layer: &LayerName, repository: &str) {
        let why = match self.images.promote_cache(repository).await {
            Ok(true) => return,
            Ok(false) => "the builder wrote none".to_owned(),
            Err(error) => error.to_string(),
        };
        let message = format!("the cache {repository} was not kept: {why}");
        self.report(layer, BuildEvent::Warning { message });
    }

    /// Releases a runner.
    pub async fn release(self, lease: LeaseId, record: LeaseRecord) -> Message {
        Message::Input(match self.provider.release(&lease, &record).await {
            Ok(_) => Input::Released { lease },
            Err(fault) => {
                let is_final = fault.class().is_refusal();
                Input::ReleaseFailed { lease, message: fault.message, is_final }
            }
        })
    }

    async fn staging(&self) -> Result<Staging, Fault> {
        let staged = self.images.staging().await.map_err(|error| store_fault("staging", &error))?;
        Ok(Arc::from(staged))
    }

    /// Build reports go to the sinks directly, so they cannot fill the dispatcher's queue.
    fn sink<'a>(&'a self, layer: &'a LayerName, reports: &'a MaskedReports) -> impl Fn(BuildEvent) + Send + Sync + 'a {
        move |progress| reports.pass(progress).into_iter().for_each(|report| self.report(layer, report))
    }

    fn report(&self, layer: &LayerName, progress: BuildEvent) {
        let body = EventBody::StepProgress { layer: layer.clone(), progress };
        self.emitter.emit(Event { at: now(), run: self.run.clone(), body });
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work).await.map_err(|error| bug(&error.to_string()))
}
