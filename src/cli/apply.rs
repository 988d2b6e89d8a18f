//! `lian-build apply`: draws the plan and carries it out. Refuses: deciding how (see `life`) and doing it (see `drive`).

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::args::{Format, Global, Selection};
use super::blueprint::{self, Blueprint};
use super::exit::{Exit, Failure, Outcome};
use super::rent::Renting;
use super::settings::Settings;
use super::show;
use super::signals;
use super::survey::Survey;
use crate::base::Timestamp;
use crate::context::Reader;
use crate::drive::{self, World};
use crate::life::{Limits, Run, StepSpec};
use crate::model::{EventBody, FaultKind, Outcome as StepOutcome, RunOutcome, RunState};
use crate::ports::{ImageStore as _, Journal, Observer};
use crate::registries::{KeepPolicy, OciLayout};
use crate::report::{self, Look, Style};
use crate::store::{Session, Store, Tally};

/// What was asked for, beside the selection.
#[derive(Debug, Clone, Copy)]
pub struct Wishes {
    /// Layers at once.
    pub parallel: Option<usize>,
    /// Start nothing more after a failure.
    pub fail_fast: bool,
}

/// Runs the command. Whatever happens, a program's last line is `run.finished`.
pub fn apply(global: &Global, selection: &Selection, wishes: Wishes) -> Outcome {
    let mut told = false;
    let outcome = run(global, selection, wishes, &mut told);
    if told || global.format != Format::Json {
        return outcome;
    }
    let exit = outcome.unwrap_or_else(|failure| show::failure(global.format, failure));
    let (outcome, none) = (RunOutcome::Failure, 0);
    let last = EventBody::RunFinished { outcome, built: none, reused: none, failed: none, skipped: none };
    show::json(&serde_json::to_value(last).expect("invariant: events are plain data"));
    Ok(exit)
}

/// `told` says whether the run began, and so tells its end by itself.
fn run(global: &Global, selection: &Selection, wishes: Wishes, told: &mut bool) -> Outcome {
    let started = Instant::now();
    let settings = Settings::of_selection(selection)?;
    let survey = Survey::take(&settings)?;
    let Some(graph) = &survey.graph else { return Ok(show::unsound(global, &survey, started)) };
    show::warnings(global, &survey);
    let store = Store::open(&settings.project_root)?;
    for run in store.recover(now())? {
        if !global.quiet {
            eprintln!("run {run} was interrupted; what it had promoted is kept, the rest is built again");
        }
    }
    let images = OciLayout::open(&settings.layout)?;
    // Whatever the plan reuses stays until the run is over.
    let in_use = images.in_use()?;
    let mut blueprint = blueprint::draw(&settings, &survey, graph, Some(&images), Some(&store))?;
    blueprint::give_secrets(&settings, &survey, &mut blueprint.jobs)?;
    super::pins::add_missing(&settings, &blueprint.pins)?;
    // An image that is reused is what the catalog says now, whatever was built in between.
    for step in blueprint.plan.steps.iter().filter(|step| step.digest.is_some()) {
        images.make_latest(step.image.trim_end_matches(":latest"), &step.key)?;
    }
    let session = Arc::new(store.begin(&super::command_line(), now())?);
    let images = Arc::new(images);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(show::io)?;
    let run = runtime.block_on(carry_out(global, &settings, blueprint, Arc::clone(&images), &session, wishes));
    // Work that nobody waits for any more must not hold the process.
    runtime.shutdown_background();
    let run = match run {
        Ok(run) => {
            *told = true;
            run
        }
        Err(failure) => {
            session.end(now(), Tally { state: RunState::Failure, counts: [0; 4] })?;
            return Err(failure);
        }
    };
    session.end(now(), tally(&run))?;
    drop(in_use);
    tidy(&store, &images, run.count(StepOutcome::Built) > 0);
    Ok(exit_of(&run))
}

/// The default bounds hold without being asked for.
fn tidy(store: &Store, images: &OciLayout, grew: bool) {
    let pruned = store.prune().map(|_| ());
    let collected = if grew { images.collect(KeepPolicy::default()).map(|_| ()) } else { Ok(()) };
    for error in [pruned.err().map(|e| e.to_string()), collected.err().map(|e| e.to_string())].into_iter().flatten() {
        tracing::warn!("tidying up: {error}");
    }
}

fn exit_of(run: &Run) -> Exit {
    match run.outcome() {
        _ if run.stuck().next().is_some() => Exit::Stuck,
        RunOutcome::Success => Exit::Done,
        RunOutcome::Failure if run.faults().count() > 0 && run.faults().all(|kind| kind == FaultKind::Unavailable) => {
            Exit::Unavailable
        }
        RunOutcome::Failure => Exit::Failed,
        RunOutcome::Cancelled => Exit::Interrupted,
    }
}

fn tally(run: &Run) -> Tally {
    let count = |outcome| run.count(outcome);
    let skipped = count(StepOutcome::Skipped) + count(StepOutcome::Cancelled);
    let state = match run.outcome() {
        RunOutcome::Success => RunState::Success,
        RunOutcome::Failure => RunState::Failure,
        RunOutcome::Cancelled => RunState::Cancelled,
    };
    let counts = [count(StepOutcome::Built), count(StepOutcome::Reused), count(StepOutcome::Failed), skipped];
    Tally { state, counts }
}

async fn carry_out(
    global: &Global,
    settings: &Settings,
    blueprint: Blueprint,
    images: Arc<OciLayout>,
    session: &Arc<Session>,
    wishes: Wishes,
) -> Result<Run, Failure> {
    let stops = signals::stops().map_err(show::io)?;
    let renting = Renting::of(settings, session)?;
    let width = width(settings, wishes.parallel);
    let limits = Limits { width, keep_going: !wishes.fail_fast, ..Limits::default() };
    let specs = blueprint
        .plan
        .steps
        .iter()
        .map(|step| StepSpec {
            layer: step.layer.clone(),
            parents: step.parents.clone(),
            reuse: step.digest.clone(),
            // This host is as large as it is: there is no larger one to go to.
            sizes: vec![step.size.clone()],
        })
        .collect();
    let observer: Box<dyn Observer> = if global.format == Format::Json {
        report::json_events()
    } else {
        let look = Look { style: Style::stderr(), quiet: global.quiet, verbose: global.verbose, width };
        report::observer(&blueprint.plan, look)
    };
    let mut observer = report::detached(observer);
    let id = session.id().clone();
    let world = World {
        provider: renting.provider,
        runners: renting.runners,
        images,
        contexts: Arc::new(Reader),
        journal: Arc::clone(session) as Arc<dyn Journal>,
        project_root: settings.project_root.clone(),
        max_lifetime: renting.max_lifetime,
    };
    let run = Run::new(id.clone(), specs, limits);
    let Blueprint { jobs, digests, .. } = blueprint;
    Ok(drive::drive(id, run, jobs, digests, world, &mut *observer, stops).await.run)
}

/// Layers at once: as said, else as the workflow says, else as many as there are processors.
pub fn width(settings: &Settings, said: Option<usize>) -> usize {
    let processors = || std::thread::available_parallelism().map_or(2, std::num::NonZero::get).max(2);
    let said = said.filter(|width| *width > 0).or(Some(settings.workflow.parallel));
    said.filter(|width| *width > 0).unwrap_or_else(processors)
}

/// The clock of the command line.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
