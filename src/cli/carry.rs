//! Carries a plan out: what `apply` and `dispatch` share. Refuses: drawing the plan.

use std::sync::Arc;
use std::time::Duration;

use super::args::{Format, Global};
use super::blueprint::Blueprint;
use super::exit::{Exit, Failure};
use super::reach::Reached;
use super::rent::Renting;
use super::settings::Settings;
use super::show;
use super::signals;
use crate::context::Reader;
use crate::drive::{self, World};
use crate::life::{Limits, Run, StepSpec};
use crate::model::{FaultKind, Outcome as StepOutcome, PlannedStep, RunOutcome, RunState, RunnerReuse, Size};
use crate::ports::{ImageStore, Journal, Observer};
use crate::report::{self, Look, Style};
use crate::store::{Session, Tally};

/// How wide, and what a failure means for the rest.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Layers at once.
    pub width: usize,
    /// Build what does not depend on a failed layer.
    pub keep_going: bool,
}

/// The exit code of a run. Where every layer that failed did so for want of a runner or a service, however often that was
/// tried, no layer is to blame.
pub fn exit_of(run: &Run) -> Exit {
    let outside = |kind| matches!(kind, FaultKind::Unavailable | FaultKind::Infrastructure);
    match run.outcome() {
        _ if run.stuck().next().is_some() => Exit::Stuck,
        RunOutcome::Success => Exit::Done,
        RunOutcome::Failure if run.faults().count() > 0 && run.faults().all(outside) => Exit::Unavailable,
        RunOutcome::Failure => Exit::Failed,
        RunOutcome::Cancelled => Exit::Interrupted,
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

/// Millionths; a fraction of one is nobody's money.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a price is positive and small")]
fn micros(units: f64) -> u64 {
    (units * 1e6).round().max(0.0) as u64
}

/// The plan's steps as a run needs them.
pub fn specs(blueprint: &Blueprint) -> Vec<StepSpec> {
    let spec = |step: &PlannedStep| StepSpec {
        layer: step.layer.clone(),
        parents: step.parents.clone(),
        reuse: step.digest.clone(),
        sizes: blueprint.sizes.get(&step.layer).cloned().unwrap_or_else(|| vec![step.size.clone()]),
    };
    blueprint.plan.steps.iter().map(spec).collect()
}

/// What bounds a run.
pub fn limits(settings: &Settings, renting: &Renting, pace: Pace) -> Limits {
    let bounds = &settings.workflow.runners;
    Limits {
        width: pace.width,
        keep_going: pace.keep_going,
        packed: bounds.runner_reuse == RunnerReuse::Packed,
        max_leases: bounds.max_leases,
        max_lifetime: renting.lifetime(settings),
        prices: renting.prices(),
        currency: renting.currency(),
        max_cost_micros: bounds.max_cost.map(micros),
        ..Limits::default()
    }
}

/// Runs the plan to its end, every lease given back or told as stuck.
pub async fn carry_out(
    global: &Global,
    settings: &Settings,
    (blueprint, renting): (Blueprint, Renting),
    images: Arc<dyn ImageStore>,
    session: &Arc<Session>,
    pace: Pace,
) -> Result<Run, Failure> {
    let stops = signals::stops().map_err(show::io)?;
    let specs = specs(&blueprint);
    let limits = limits(settings, &renting, pace);
    let Blueprint { plan, jobs, digests, sizes, .. } = blueprint;
    let observer: Box<dyn Observer> = if global.format == Format::Json {
        report::json_events()
    } else {
        let look = Look { style: Style::stderr(), quiet: global.quiet, verbose: global.verbose, width: pace.width };
        let rungs = |sizes: Vec<Size>| sizes.into_iter().map(|size| size.runner_type).collect();
        let ladders = sizes.into_iter().map(|(layer, sizes)| (layer, rungs(sizes))).collect();
        report::observer(&plan, look, ladders)
    };
    let mut observer = report::detached(observer);
    let id = session.id().clone();
    let bounds = &settings.workflow.runners;
    if let Some(memo) = &renting.memo {
        session.rents_from(memo.clone());
    }
    let world = World {
        provider: renting.provider,
        runners: Arc::new(Reached::new(settings)),
        images,
        contexts: Arc::new(Reader),
        journal: Arc::clone(session) as Arc<dyn Journal>,
        project_root: settings.project_root.clone(),
        max_lifetime: Duration::from_secs(bounds.max_lifetime_min * 60),
    };
    let run = Run::new(id.clone(), specs, limits);
    Ok(drive::drive(id, run, jobs, digests, world, &mut *observer, stops).await.run)
}
