//! `lian-build apply`: draws the plan and carries it out. Not responsible for: deciding how (see `life`) and doing it (see `drive`).

use std::sync::Arc;
use std::time::Instant;

use clap::Args;

use super::args::{Format, Global, Selection};
use super::carry;
use super::exit::{Exit, Outcome, outranked};
use super::invocation;
use super::recovered::{self, or_remind};
use super::show;
use crate::adapters::store::Tally;
use crate::app::config::{self, Config};
use crate::app::planning::platforms;
use crate::app::planning::prepare::{self, Past};
use crate::app::planning::secrets;
use crate::app::planning::survey::Declarations;
use crate::app::runners::limits::Concurrency;
use crate::app::session::Session;
use crate::app::{Error, recover};
use crate::domain::model::{EventBody, Outcome as StepOutcome, RunOutcome, RunState};
use crate::system::now;

/// Builds what must be built, verifies it and moves the tags
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lian-build apply
  lian-build apply --target app --parallel 4
  lian-build apply --force rust --fail-fast
  lian-build apply --provider local     here, whatever the workflow says
  lian-build apply \\
      --base-image docker.io/library/debian:trixie-slim=oci-layout:./debian")]
pub struct Apply {
    #[command(flatten)]
    selection: Selection,
    /// How many layers at once
    #[arg(long, value_name = "N")]
    parallel: Option<usize>,
    /// Build what does not depend on a failed layer (the default)
    #[arg(long, conflicts_with = "fail_fast")]
    keep_going: bool,
    /// Start nothing more after a failure
    #[arg(long)]
    fail_fast: bool,
}

/// Runs the command. Whatever happens, a program's last line is `run.finished`.
pub fn apply(global: &Global, flags: &Apply) -> Outcome {
    finish(global, |told| {
        let selection = config::Selection { parallel: flags.parallel, ..(&flags.selection).into() };
        let config = or_remind(Config::for_builds(&selection))?;
        let concurrency = Concurrency { width: config.width.value, keep_going: !flags.fail_fast };
        run(global, config, Declarations::evaluate, concurrency, told)
    })
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
    let session = Session::new(settings);
    let left = recovered::first(global, &session)?;
    let outcome = build(global, &session, declare, concurrency, told);
    outranked(outcome, recovered::is_stuck(&session, left))
}

/// Plans and builds; what dead runs left is given back.
fn build(
    global: &Global,
    session: &Session,
    declare: impl FnOnce(&Config) -> Result<Declarations, Error>,
    concurrency: Concurrency,
    told: &mut bool,
) -> Outcome {
    let started = Instant::now();
    let settings = session.config();
    let provider_context = session.provider()?;
    let survey = platforms::survey(settings, provider_context, declare(settings)?)?;
    let Some(graph) = &survey.graph else { return Ok(show::unsound(global, &survey, started)) };
    show::warnings(global, &survey);
    let store = session.store()?;
    for run in store.recover(now())? {
        if !global.quiet {
            eprintln!("run {run} was interrupted; what it had promoted is kept, the rest is built again");
        }
    }
    let images = session.images()?;
    // Whatever the plan reuses stays until the run is over.
    let in_use = session.wait(images.in_use())??;
    let past = Past { images: Some(&**images), history: Some(store) };
    let drawn = prepare::prepare(settings, &survey, graph, past, provider_context);
    let mut prepared = session.wait(drawn)??;
    secrets::give_secrets(settings, &survey, &mut prepared.jobs)?;
    crate::app::planning::pins::add_missing(settings, &prepared.pins)?;
    // An image that is reused is what the catalog says now, whatever was built in between.
    for step in prepared.plan.steps.iter().filter(|step| step.digest.is_some()) {
        session.wait(images.point(step.image.trim_end_matches(":latest"), "latest", &step.key))??;
    }
    let tagged = settings.tag.as_deref().map(|tag| (tag.to_owned(), prepared.plan.clone()));
    let recorder = Arc::new(store.begin(&invocation::command_line(), now())?);
    let drawn = (prepared, provider_context.clone());
    let carried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        session.wait(carry::carry_out(global, settings, drawn, Arc::clone(images), &recorder, concurrency))
    }));
    // Work that nobody waits for any more must not hold the process.
    session.stop_tasks();
    let run = match carried {
        Ok(run) => run,
        Err(panic) => {
            // A bug of ours must not be somebody's bill: with its recorder the run is dead, and what it left goes back.
            drop(recorder);
            let left = session.wait(recover::recover_all(session.store()?, session.project()))??;
            recovered::tell(global, &left);
            std::panic::resume_unwind(panic);
        }
    };
    let run = match run? {
        Ok(run) => {
            *told = true;
            run
        }
        Err(failure) => {
            recorder.end(now(), Tally { state: RunState::Failure, counts: [0; 4] })?;
            return Err(failure);
        }
    };
    let exit = carry::exit_of(&run);
    let wound_up = (|| {
        recorder.end(now(), carry::tally(&run))?;
        drop(in_use);
        if let Some((tag, plan)) = tagged.filter(|_| exit == Exit::Done) {
            for step in &plan.steps {
                session.wait(images.point(step.image.trim_end_matches(":latest"), &tag, &step.key))??;
            }
        }
        let collected = if run.count(StepOutcome::Built) > 0 { session.wait(images.tidy())? } else { Ok(()) };
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
