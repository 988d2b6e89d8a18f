//! The use case behind `apply` and `dispatch`: release the leases of dead runs, plan, build, finish. Not responsible
//! for: display, signals, exit codes (see `Frontend`, which the command line implements).

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;

use super::Error;
use super::config::Config;
use super::execute::{RunServices, Work, execute};
use super::planning::prepare::{self, Past};
use super::planning::prepared_plan::PreparedPlan;
use super::planning::survey::{Declarations, Survey};
use super::planning::{pins, platforms, secrets};
use super::recover::{self, Recovered};
use super::runners::connect_options::ConnectOptions;
use super::runners::connector::Connector;
use super::runners::limits::{self, Concurrency};
use super::runners::provider_record;
use super::session::Session;
use super::sinks::{LITTLE_PATIENCE, LeftBehind, PATIENCE, Sinks};
use super::trust::{self, Purpose};
use crate::adapters::context::Reader;
use crate::adapters::store::{InterruptedRun, RunRecorder, Store, Tally};
use crate::domain::base::{LayerName, LeaseId, RunId};
use crate::domain::life::{Run, StopLevel};
use crate::domain::model::{Outcome, Plan, PlannedStep, RunOutcome, Size};
use crate::domain::ports::{ImageStore, InUse, Journal, Sink};
use crate::system::now;

/// A request to build.
pub struct ApplyRequest<D> {
    /// The run's id, created before anything can fail, so that a failed start has one, too.
    pub run: RunId,
    /// Reads the declared layers.
    pub declare: D,
    /// Concurrency, and what happens after a failure.
    pub concurrency: Concurrency,
    /// The command line, as `runs` lists it.
    pub command: String,
}

/// A notice before a run has events.
pub enum Notice<'a> {
    /// Leases of dead runs were released, or could not be.
    Recovered(&'a Recovered),
    /// Leases of dead runs that are stuck at the end.
    StillStuck(Vec<&'a (LeaseId, String)>),
    /// The catalog is valid, perhaps with warnings.
    Surveyed(&'a Survey),
    /// A run of this project died.
    Interrupted(&'a InterruptedRun),
}

/// The caller's interface: shows notices, provides sinks and requests stops.
pub trait Frontend {
    /// Shows a notice.
    fn notice(&self, notice: Notice<'_>);

    /// The sinks that receive the run's events. `ladders` are the runner types that each layer may get, smallest
    /// first.
    fn sinks(&self, plan: &Plan, ladders: BTreeMap<LayerName, Vec<String>>) -> Vec<Box<dyn Sink>>;

    /// Requests that the run stops. Called on the run's runtime.
    fn stops(&self) -> std::io::Result<Receiver<StopLevel>>;
}

/// How a run ended.
pub enum RunEnd {
    /// The catalog has faults: no run began.
    Unsound(Box<Survey>),
    /// The run ended.
    Finished(Box<FinishedRun>),
}

/// A run that is over.
pub struct FinishedRun {
    /// Its last state.
    pub run: Run,
    /// The sinks that did not handle the last events in time.
    pub left_behind: Vec<LeftBehind>,
    /// Errors after its end, from writing the history or moving tags.
    pub wound_up: Result<(), Error>,
}

/// The result of a request.
pub struct Applied {
    /// How the run ended, or why it did not begin.
    pub end: Result<RunEnd, Error>,
    /// Whether a dead run's lease could not be released.
    pub stuck: bool,
}

/// Releases the leases of dead runs, then plans and builds the declared layers.
pub fn apply<D>(session: &Session, request: ApplyRequest<D>, frontend: &dyn Frontend) -> Applied
where
    D: FnOnce(&Config) -> Result<Declarations, Error>,
{
    let left = match recover::recover_project(session) {
        Ok(left) => left,
        Err(error) => return Applied { end: Err(error), stuck: false },
    };
    frontend.notice(Notice::Recovered(&left));
    let end = plan_and_build(session, request, frontend);
    // Whoever leaves waits for nothing: the next command looks again.
    let was_left = matches!(&end, Ok(RunEnd::Finished(finished)) if finished.run.was_left());
    if (left.settling.is_empty() && left.slow.is_empty()) || was_left {
        return Applied { end, stuck: left.is_left() };
    }
    // Leases that had to settle, or took long to go, are checked again.
    let stuck = match recover::recover_project(session) {
        Ok(again) => {
            frontend.notice(Notice::StillStuck(again.newly_stuck(&left).collect()));
            again.is_left()
        }
        Err(failure) => {
            tracing::warn!("what dead runs left could not be looked for again: {failure}");
            left.is_left()
        }
    };
    Applied { end, stuck }
}

/// A run that is ready to begin.
struct Prepared {
    id: RunId,
    concurrency: Concurrency,
    command: String,
    plan: PreparedPlan,
    /// Keeps the reused images until the run ends.
    in_use: Option<Box<dyn InUse>>,
}

fn plan_and_build<D>(session: &Session, request: ApplyRequest<D>, frontend: &dyn Frontend) -> Result<RunEnd, Error>
where
    D: FnOnce(&Config) -> Result<Declarations, Error>,
{
    let ApplyRequest { run: id, declare, concurrency, command } = request;
    let config = session.config();
    let declarations = declare(config)?;
    // Before anything is contacted, and all at once.
    trust::demand(config, trust::wants(config, Purpose::Build(declarations.catalog()))?)?;
    config.check_bundle()?;
    let provider_context = session.provider()?;
    let survey = platforms::survey(config, provider_context, declarations)?;
    let Some(graph) = &survey.graph else { return Ok(RunEnd::Unsound(Box::new(survey))) };
    frontend.notice(Notice::Surveyed(&survey));
    let store = session.store()?;
    for run in store.recover(now())? {
        frontend.notice(Notice::Interrupted(&run));
    }
    let images = &**session.images()?;
    let in_use = session.wait(images.in_use())??;
    let past = Past { images: Some(images), history: Some(store) };
    let plan = prepare::prepare(config, &survey, graph, past, provider_context);
    let mut plan = session.wait(plan)??;
    secrets::give_secrets(config, &survey, &mut plan.jobs)?;
    pins::add_missing(config, &plan.pins)?;
    // A reused image is the catalog's current state, even if others were built in between.
    let reused = plan.plan.steps.iter().filter(|step| step.digest.is_some());
    session.wait(point(images, "latest", reused))??;
    let finished = build(session, Prepared { id, concurrency, command, plan, in_use }, frontend)?;
    Ok(RunEnd::Finished(Box::new(finished)))
}

/// Points a tag at the images of these steps.
async fn point(images: &dyn ImageStore, tag: &str, steps: impl Iterator<Item = &PlannedStep>) -> Result<(), Error> {
    for step in steps {
        images.point(step.image.name.as_str(), tag, &step.key).await?;
    }
    Ok(())
}

/// Builds the plan.
fn build(session: &Session, prepared: Prepared, frontend: &dyn Frontend) -> Result<FinishedRun, Error> {
    let Prepared { id, concurrency, command, plan, in_use } = prepared;
    let (config, store, images) = (session.config(), session.store()?, session.images()?);
    let provider_context = session.provider()?.clone();
    let stops = session.wait(async { frontend.stops() })?.map_err(Error::machine)?;
    let recorder = Arc::new(store.begin(id.clone(), &command, now())?);
    if let Some(provider_record) = &provider_context.provider_record {
        recorder.rents_from(provider_record::bound(provider_record.clone(), config.project.user()));
    }
    let sinks = start_sinks(&plan, &recorder, frontend);
    let modes = provider_context.modes(config);
    let bounds = limits::limits(config, &provider_context, concurrency);
    let run = Run::new(id.clone(), limits::specs(&plan, &provider_context), bounds);
    let services = RunServices {
        provider: provider_context.provider,
        runners: Arc::new(Connector::new(
            ConnectOptions::of(config, provider_context.descriptor.login, &id),
            provider_context.connections,
        )),
        images: Arc::clone(images),
        contexts: Arc::new(Reader::of(modes)),
        journal: Arc::clone(&recorder) as Arc<dyn Journal>,
        project_root: config.project.root().to_owned(),
        max_lifetime: Duration::from_secs(config.workflow.runners.max_lifetime_min * 60),
    };
    let PreparedPlan { plan, jobs, digests, .. } = plan;
    let work = execute(Work { id, run, jobs, digests }, services, sinks.emitter(), stops);
    let executed = catch_unwind(AssertUnwindSafe(|| session.wait(work)));
    // Work that is no longer needed must not keep the process alive.
    session.stop_tasks();
    let run = match executed {
        Ok(finished) => finished?.run,
        Err(panic) => {
            sinks.close(LITTLE_PATIENCE);
            // A bug here must not cost the user money: without its recorder the run is dead, so its leases are
            // released.
            drop(recorder);
            let left = session.wait(recover::recover_all(store, session.config()))??;
            frontend.notice(Notice::Recovered(&left));
            resume_unwind(panic);
        }
    };
    let wound_up = recorder.end(now(), Tally::of(&run)).map_err(Error::from).and_then(|()| {
        drop(in_use);
        if run.was_left() {
            return Ok(());
        }
        let tag = config.tag.as_deref().filter(|_| is_clean(&run));
        session.wait(async {
            if let Some(tag) = tag {
                point(&**images, tag, plan.steps.iter()).await?;
            }
            tidy(store, &**images, run.count(Outcome::Built) > 0).await;
            Ok(())
        })?
    });
    // At the very end: a reader that is slow gets all, and nothing is held meanwhile.
    let left_behind = sinks.close(if run.outcome() == RunOutcome::Cancelled { LITTLE_PATIENCE } else { PATIENCE });
    Ok(FinishedRun { run, left_behind, wound_up })
}

/// The log sink, then the caller's sinks.
fn start_sinks(plan: &PreparedPlan, recorder: &RunRecorder, frontend: &dyn Frontend) -> Sinks {
    let types = |sizes: &Vec<Size>| sizes.iter().map(|size| size.runner_type.clone()).collect();
    let ladders = plan.sizes.iter().map(|(layer, sizes)| (layer.clone(), types(sizes))).collect();
    let mut sinks: Vec<Box<dyn Sink>> = vec![Box::new(recorder.step_logs())];
    sinks.extend(frontend.sinks(&plan.plan, ladders));
    Sinks::start(sinks)
}

/// Whether a run completed everything and left no lease.
fn is_clean(run: &Run) -> bool {
    run.outcome() == RunOutcome::Success && run.stuck().next().is_none()
}

/// Applies the default storage limits; failures are only logged, because the user did not ask for this.
async fn tidy(store: &Store, images: &dyn ImageStore, has_grown: bool) {
    if let Err(error) = store.prune() {
        tracing::warn!("tidying up: {error}");
    }
    if has_grown && let Err(error) = images.tidy().await {
        tracing::warn!("tidying up: {error}");
    }
}
