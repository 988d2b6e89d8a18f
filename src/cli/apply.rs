//! `lian-build apply`: draws the plan and carries it out. Not responsible for: deciding how (see `life`) and doing it (see `drive`).

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::args::{Format, Global, Selection};
use super::carry;
use super::exit::{Exit, Outcome, outranked};
use super::recovered;
use super::show;
use crate::adapters::store::Tally;
use crate::app::config::Config;
use crate::app::images;
use crate::app::planning::platforms;
use crate::app::planning::prepare::{self, Past};
use crate::app::planning::secrets;
use crate::app::planning::survey::Declarations;
use crate::app::project::Project;
use crate::app::runners::limits::Concurrency;
use crate::app::runners::provider_context::ProviderContext;
use crate::app::{self, Error, recover};
use crate::domain::model::{EventBody, Outcome as StepOutcome, RunOutcome, RunState};
use crate::system::now;

/// What was asked for, beside the selection.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Layers at once.
    pub parallel: Option<usize>,
    /// Start nothing more after a failure.
    pub fail_fast: bool,
}

/// Runs the command. Whatever happens, a program's last line is `run.finished`.
pub fn apply(global: &Global, selection: &Selection, wishes: Options) -> Outcome {
    finish(global, |told| {
        let settings = or_remind(Config::of_selection(&selection.into()))?;
        let concurrency = Concurrency { width: width(&settings, wishes.parallel), keep_going: !wishes.fail_fast };
        run(global, settings, Declarations::evaluate, concurrency, told)
    })
}

/// Where nobody knows which project is meant, nothing is given back; that something waits is said all the same.
pub fn or_remind<T, E>(settings: Result<T, E>) -> Result<T, E> {
    settings.inspect_err(|_| recovered::remind(&Project::of_folder(Path::new("."))))
}

/// Sees to a program's last line, however the work ends: `told` says whether the run began, and so tells its end itself.
pub fn finish(global: &Global, work: impl FnOnce(&mut bool) -> Outcome) -> Outcome {
    let mut told = false;
    let outcome = work(&mut told);
    if told || global.format != Format::Json {
        return outcome;
    }
    let exit = outcome.unwrap_or_else(|failure| show::failure(global.format, failure));
    let (outcome, none) = (RunOutcome::Failure, 0);
    let last = EventBody::RunFinished { outcome, built: none, reused: none, failed: none, skipped: none };
    show::json(&serde_json::to_value(last).expect("invariant: events are plain data"));
    Ok(exit)
}

/// Gives back what dead runs left, then plans what the survey finds, and carries it out. A lease that cannot be given back
/// outranks whatever comes of that.
pub fn run(
    global: &Global,
    settings: Config,
    declare: impl FnOnce(&Config) -> Result<Declarations, Error>,
    concurrency: Concurrency,
    told: &mut bool,
) -> Outcome {
    let project = settings.project.clone();
    let left = recovered::first(global, &project)?;
    let outcome = build(global, settings, declare, concurrency, told);
    outranked(outcome, recovered::is_stuck(&project, left))
}

/// Plans and builds; what dead runs left is given back.
fn build(
    global: &Global,
    settings: Config,
    declare: impl FnOnce(&Config) -> Result<Declarations, Error>,
    concurrency: Concurrency,
    told: &mut bool,
) -> Outcome {
    let started = Instant::now();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(show::io)?;
    let provider_context = runtime.block_on(ProviderContext::of(&settings))?;
    let survey = platforms::survey(&settings, &provider_context, declare(&settings)?)?;
    let Some(graph) = &survey.graph else { return Ok(show::unsound(global, &survey, started)) };
    show::warnings(global, &survey);
    let store = settings.project.open_store()?;
    for run in store.recover(now())? {
        if !global.quiet {
            eprintln!("run {run} was interrupted; what it had promoted is kept, the rest is built again");
        }
    }
    let images = images::open(&settings)?;
    // Whatever the plan reuses stays until the run is over.
    let in_use = runtime.block_on(images.in_use())?;
    let past = Past { images: Some(&*images), history: Some(&store) };
    let drawn = prepare::prepare(&settings, &survey, graph, past, &provider_context);
    let mut prepared = runtime.block_on(drawn)?;
    secrets::give_secrets(&settings, &survey, &mut prepared.jobs)?;
    crate::app::planning::pins::add_missing(&settings, &prepared.pins)?;
    // An image that is reused is what the catalog says now, whatever was built in between.
    for step in prepared.plan.steps.iter().filter(|step| step.digest.is_some()) {
        runtime.block_on(images.point(step.image.trim_end_matches(":latest"), "latest", &step.key))?;
    }
    let tagged = settings.tag.as_deref().map(|tag| (tag.to_owned(), prepared.plan.clone()));
    let session = Arc::new(store.begin(&super::command_line(), now())?);
    let drawn = (prepared, provider_context);
    let carried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(carry::carry_out(global, &settings, drawn, Arc::clone(&images), &session, concurrency))
    }));
    let run = match carried {
        Ok(run) => run,
        Err(panic) => {
            // A bug of ours must not be somebody's bill: with its session the run is dead, and what it left goes back.
            runtime.shutdown_background();
            drop(session);
            let left = app::runtime()?.block_on(recover::recover_all(&store, &settings.project))?;
            recovered::tell(global, &left);
            std::panic::resume_unwind(panic);
        }
    };
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
    let exit = carry::exit_of(&run);
    let wound_up = (|| {
        session.end(now(), carry::tally(&run))?;
        drop(in_use);
        let runtime = app::runtime()?;
        if let Some((tag, plan)) = tagged.filter(|_| exit == Exit::Done) {
            for step in &plan.steps {
                runtime.block_on(images.point(step.image.trim_end_matches(":latest"), &tag, &step.key))?;
            }
        }
        let collected = if run.count(StepOutcome::Built) > 0 { runtime.block_on(images.tidy()) } else { Ok(()) };
        tidied(store.prune().err().map(|error| error.to_string()), collected.err().map(|error| error.to_string()));
        Ok(exit)
    })();
    outranked(wound_up, exit == Exit::Stuck)
}

/// The default bounds hold without being asked for; that they do not is no reason to fail.
fn tidied(logs: Option<String>, images: Option<String>) {
    for error in [logs, images].into_iter().flatten() {
        tracing::warn!("tidying up: {error}");
    }
}

/// Layers at once: as said, else as the workflow says, else as many as there are processors.
pub fn width(settings: &Config, said: Option<usize>) -> usize {
    let processors = || std::thread::available_parallelism().map_or(2, std::num::NonZero::get).max(2);
    let said = said.filter(|width| *width > 0).or(Some(settings.workflow.parallel));
    said.filter(|width| *width > 0).unwrap_or_else(processors)
}
