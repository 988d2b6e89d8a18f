//! Carries a plan out: what `apply` and `dispatch` share. Not responsible for: drawing the plan.

use std::sync::Arc;
use std::time::Duration;

use super::args::{Format, Global};
use super::exit::{Exit, Failure};
use super::show;
use super::signals;
use crate::adapters::context::Reader;
use crate::adapters::store::{RunRecorder, Tally};
use crate::app::config::Config;
use crate::app::execute::{RunServices, Work, execute};
use crate::app::planning::prepared_plan::PreparedPlan;
use crate::app::runners::connect_options::ConnectOptions;
use crate::app::runners::connector::Connector;
use crate::app::runners::limits::{self, Concurrency};
use crate::app::runners::provider_context::ProviderContext;
use crate::app::sinks::Sinks;
use crate::domain::life::Run;
use crate::domain::model::{Outcome as StepOutcome, RunOutcome, RunState, Size};
use crate::domain::ports::{ImageStore, Journal, Sink};
use crate::report::{self, ProgressOptions, Style};

/// The exit code of a run.
pub fn exit_of(run: &Run) -> Exit {
    match run.stuck().next() {
        Some(_) => Exit::Stuck,
        None => Exit::of_run(run.outcome(), run.faults()),
    }
}

/// What a run came to, for the history.
pub fn tally(run: &Run) -> Tally {
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

/// Runs the plan to its end, every lease given back or told as stuck.
pub async fn carry_out(
    global: &Global,
    settings: &Config,
    (prepared, provider_context): (PreparedPlan, ProviderContext),
    images: Arc<dyn ImageStore>,
    session: &Arc<RunRecorder>,
    concurrency: Concurrency,
) -> Result<Run, Failure> {
    let stops = signals::stops().map_err(show::io)?;
    let specs = limits::specs(&prepared, &provider_context);
    let limits = limits::limits(settings, &provider_context, concurrency);
    let PreparedPlan { plan, jobs, digests, sizes, .. } = prepared;
    let sink: Box<dyn Sink> = if global.format == Format::Json {
        report::json_events()
    } else {
        let look = ProgressOptions {
            style: Style::stderr(),
            quiet: global.quiet,
            verbose: global.verbose,
            width: concurrency.width,
        };
        let rungs = |sizes: Vec<Size>| sizes.into_iter().map(|size| size.runner_type).collect();
        let ladders = sizes.into_iter().map(|(layer, sizes)| (layer, rungs(sizes))).collect();
        report::terminal(&plan, look, ladders)
    };
    let sinks = Sinks::start(vec![Box::new(session.step_logs()), sink]);
    let id = session.id().clone();
    if let Some(provider_record) = &provider_context.provider_record {
        session.rents_from(provider_record.clone());
    }
    let world = RunServices {
        provider: provider_context.provider,
        runners: Arc::new(Connector::new(ConnectOptions::of(settings), provider_context.connections)),
        images,
        contexts: Arc::new(Reader),
        journal: Arc::clone(session) as Arc<dyn Journal>,
        project_root: settings.project.root().to_owned(),
        max_lifetime: Duration::from_secs(settings.workflow.runners.max_lifetime_min * 60),
    };
    let run = Run::new(id.clone(), specs, limits);
    Ok(execute(Work { id, run, jobs, digests }, world, sinks.emitter(), stops).await.run)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::base::{RunId, Timestamp};
    use crate::domain::life::{Effect, Input, Limits, Placement, StepSpec};
    use crate::domain::model::{Fault, FaultKind, Size};

    /// How a run of one layer ends whose runner does not come, for this reason.
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
