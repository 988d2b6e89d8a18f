//! `lian-build apply`, and the code it shares with `dispatch`: shows a run and returns its exit code. Not responsible
//! for: the run (see `app::apply`).

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Instant;

use clap::Args;
use tokio::sync::mpsc::Receiver;

use super::args::{Format, Global, Selection};
use super::exit::{Exit, Outcome, outranked};
use super::recovered::{self, or_remind};
use super::{invocation, show, signals};
use crate::adapters::store::{InterruptedRun, Reached, fresh_run_id};
use crate::app::Error;
use crate::app::apply::{self, ApplyRequest, FinishedRun, Frontend, Notice, RunEnd};
use crate::app::config::{self, Config};
use crate::app::planning::survey::Declarations;
use crate::app::runners::limits::Concurrency;
use crate::app::session::Session;
use crate::app::sinks::LeftBehind;
use crate::domain::base::{LayerName, RunId, Timestamp};
use crate::domain::life::{Run, StopLevel};
use crate::domain::model::{Event, EventBody, Plan, RunOutcome};
use crate::domain::ports::Sink;
use crate::report::{self, ProgressOptions, Style, TERMINAL};
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

/// Runs the command. With JSON output, the last line is always `run.finished`.
pub fn apply(global: &Global, flags: &Apply) -> Outcome {
    finish(global, |telling| {
        let selection = config::Selection { parallel: flags.parallel, ..flags.selection.with(global) };
        let config = or_remind(global, Config::for_builds(&selection))?;
        let concurrency = Concurrency { width: config.width.value, keep_going: !flags.fail_fast };
        run(global, config, Declarations::evaluate, concurrency, telling)
    })
}

/// The state of a run's JSON output.
pub struct Telling {
    /// Its id, known before anything can fail.
    run: RunId,
    /// Whether `run.finished` was written.
    is_told: bool,
}

/// Writes `run.finished` for JSON output if the work ended without it, even by a panic.
pub fn finish(global: &Global, work: impl FnOnce(&mut Telling) -> Outcome) -> Outcome {
    let mut telling = Telling { run: fresh_run_id(), is_told: false };
    let worked = catch_unwind(AssertUnwindSafe(|| work(&mut telling)));
    if telling.is_told || global.format != Format::Json {
        return worked.unwrap_or_else(|panic| resume_unwind(panic));
    }
    let worked = worked.map(|outcome| outcome.unwrap_or_else(|failure| show::failure(global.format, failure)));
    let (outcome, none) = (RunOutcome::Failure, 0);
    let body = EventBody::RunFinished { outcome, built: none, reused: none, failed: none, skipped: none };
    let last = Event { at: now(), run: telling.run, body };
    let last = serde_json::to_string(&last).expect("invariant: events are plain data");
    show::event(&format!("{last}\n"));
    worked.map_or_else(|panic| resume_unwind(panic), Ok)
}

/// Plans and builds the declared layers. A stuck lease of a dead run outranks any other result.
pub fn run(
    global: &Global,
    config: Config,
    declare: impl FnOnce(&Config) -> Result<Declarations, Error>,
    concurrency: Concurrency,
    telling: &mut Telling,
) -> Outcome {
    let (started, began) = (Instant::now(), now());
    let session = Session::building(config)?;
    let frontend = CommandLine { global, width: concurrency.width, began };
    let (run, command) = (telling.run.clone(), invocation::command_line());
    let applied = apply::apply(&session, ApplyRequest { run, declare, concurrency, command }, &frontend);
    let outcome = match applied.end {
        Ok(RunEnd::Unsound(survey)) => Ok(show::unsound(global, &survey, started)),
        Ok(RunEnd::Finished(finished)) => {
            telling.is_told = true;
            ended(*finished)
        }
        Err(error) => Err(error.into()),
    };
    outranked(outcome, applied.stuck)
}

/// The result of a finished run.
fn ended(FinishedRun { run, left_behind, wound_up }: FinishedRun) -> Outcome {
    // The warning goes to the terminal, so skip it if the terminal itself hangs.
    for LeftBehind(sink) in left_behind.iter().filter(|sink| sink.0 != TERMINAL) {
        match *sink {
            report::JSON => show::lose_events("whoever reads them does not take the last ones"),
            sink => tracing::warn!("`{sink}` does not take what is written: its end is left out"),
        }
    }
    let exit = exit_of(&run);
    outranked(wound_up.map(|()| exit).map_err(Into::into), exit == Exit::Stuck)
}

/// The command line as a run's front end.
struct CommandLine<'a> {
    global: &'a Global,
    /// Concurrent layers.
    width: usize,
    /// When the command began.
    began: Timestamp,
}

impl Frontend for CommandLine<'_> {
    fn notice(&self, notice: Notice<'_>) {
        match notice {
            Notice::Recovered(left) => recovered::tell(self.global, left),
            Notice::StillStuck(stuck) => recovered::tell_stuck(stuck.into_iter()),
            Notice::Surveyed(survey) => show::warnings(self.global, survey),
            Notice::Interrupted(_) if self.global.quiet => {}
            Notice::Interrupted(InterruptedRun { id, reached }) => {
                let after = |reached: &Reached| {
                    let [built, reused, ..] = reached.counts;
                    format!(" after {} of {}", built + reused, report::count(reached.steps, "layer"))
                };
                let after = reached.as_ref().map(after).unwrap_or_default();
                eprintln!("run {id} was interrupted{after}; what it had promoted is kept, the rest is built again");
            }
        }
    }

    fn sinks(&self, plan: &Plan, ladders: BTreeMap<LayerName, Vec<String>>) -> Vec<Box<dyn Sink>> {
        let Global { format, quiet, verbose, .. } = *self.global;
        if format == Format::Json {
            return vec![report::json_events(show::event)];
        }
        let look =
            ProgressOptions { style: Style::stderr(), quiet, verbose, width: self.width, began: Some(self.began) };
        vec![report::terminal(plan, look, ladders, show::out)]
    }

    fn stops(&self) -> std::io::Result<Receiver<StopLevel>> {
        signals::stops()
    }
}

/// The exit code of a run.
fn exit_of(run: &Run) -> Exit {
    match run.stuck().next() {
        Some(_) => Exit::Stuck,
        None => Exit::of_run(run.outcome(), run.faults()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::base::Timestamp;
    use crate::domain::life::{Effect, Input, Limits, Placement, StepSpec};
    use crate::domain::model::{Fault, FaultKind, Size};

    /// The exit code of a run of one layer whose runner request fails with this kind of fault.
    fn ended(kind: FaultKind) -> Exit {
        let (runner_type, tier) = ("t".to_owned(), "explicit".to_owned());
        let sizes = vec![Size { runner_type, cpu: 2, memory_gb: 4, time_budget_min: 1, tier }];
        let (layer, place) = ("app".into(), Placement::default());
        let spec = StepSpec { layer, parents: Vec::new(), reuse: None, place, sizes };
        let mut run = Run::new(RunId::from("r"), vec![spec], Limits::default());
        let effects = run.on(Timestamp(0), Input::Begin);
        let lease = effects.into_iter().find_map(|effect| match effect {
            Effect::Acquire { lease, .. } => Some(lease),
            _ => None,
        });
        let (lease, fault) = (lease.expect("asked for"), Fault::new(kind, "lian::test", "no"));
        run.on(Timestamp(1), Input::LeaseRefused { lease: lease.clone(), fault });
        run.on(Timestamp(2), Input::Released { lease });
        assert!(run.is_finished());
        exit_of(&run)
    }

    #[test]
    fn a_bug_is_told_apart_from_a_layer_that_failed() {
        assert_eq!(ended(FaultKind::Bug), Exit::Bug);
        assert_eq!(ended(FaultKind::Unavailable), Exit::Unavailable);
        assert_eq!(ended(FaultKind::Build), Exit::Failed);
    }
}
