//! What a plan will come to on leased runners: the run itself, played through with a clock of its own. Refuses: anything
//! real.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::base::{Digest, LayerName, LeaseId, RunId, Timestamp};
use crate::life::{Effect, Input, Limits, Run, StepSpec};
use crate::model::{Action, EventBody, Forecast, Plan};

/// From asking for a runner to building on it, as measured on a cloud; the rest of a lease's life is short beside it.
const BOOT: Duration = Duration::from_secs(45);

/// Plays the run through: every build takes what it usually takes, and nothing fails.
pub fn forecast(plan: &Plan, specs: Vec<StepSpec>, limits: Limits) -> Forecast {
    let currency = limits.currency.clone();
    let mut run = Run::new(RunId::from("forecast"), specs, limits);
    let mut forecast = Forecast { currency, ..Forecast::default() };
    let unknown = |step: &&crate::model::PlannedStep| step.action == Action::Build && step.estimate_ms.is_none();
    forecast.unknown = plan.steps.iter().filter(unknown).count();
    let mut leases: BTreeSet<LeaseId> = BTreeSet::new();
    // What is to come, soonest first; the number keeps the order of what comes at once.
    let mut coming: BTreeSet<(Timestamp, usize)> = BTreeSet::new();
    let mut inputs: Vec<Input> = vec![Input::Begin];
    coming.insert((Timestamp(0), 0));
    while let Some((at, index)) = coming.pop_first() {
        if run.is_finished() {
            break;
        }
        for effect in run.on(at, inputs[index].clone()) {
            if let Effect::Acquire { lease, .. } = &effect {
                leases.insert(lease.clone());
            }
            if let Effect::Emit(body) = &effect
                && let EventBody::RunCost { micros, started_hours, .. } = **body
            {
                (forecast.micros, forecast.started_hours) = (micros, started_hours);
            }
            if let Some((after, input)) = answer(plan, effect) {
                coming.insert((at.plus(after), inputs.len()));
                inputs.push(input);
            }
        }
        forecast.wall_ms = at.0;
    }
    forecast.leases = leases.len();
    forecast
}

/// How long an effect takes and what comes of it.
fn answer(plan: &Plan, effect: Effect) -> Option<(Duration, Input)> {
    let now = Duration::ZERO;
    Some(match effect {
        Effect::Acquire { lease, size, .. } => (BOOT, Input::LeaseGranted { lease, runner_type: size.runner_type }),
        Effect::Sync { layer, .. } => (now, Input::Synced { layer }),
        Effect::Build { layer, .. } => {
            let (layer, digest) = (layer.clone(), Digest::of("forecast"));
            let takes = usual(plan, &layer);
            (takes, Input::BuildDone { layer, digest, steps: 0, cached: 0, measured: None })
        }
        Effect::Verify { layer, .. } => (now, Input::Verified { layer }),
        Effect::Promote { layer } => (now, Input::Promoted { layer }),
        Effect::Record { layer, .. } => (now, Input::Recorded { layer }),
        Effect::Release { lease } => (now, Input::Released { lease }),
        Effect::Kill { layer, .. } => (now, Input::Killed { layer }),
        Effect::Arm { timer, after } => (after, Input::TimerFired { timer }),
        Effect::Emit(_) | Effect::Abandon { .. } | Effect::Finish => return None,
    })
}

fn usual(plan: &Plan, layer: &LayerName) -> Duration {
    let estimate = plan.step(layer).and_then(|step| step.estimate_ms);
    Duration::from_millis(estimate.unwrap_or(0)).min(Duration::from_secs(24 * 3600))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LayerKey, PlannedStep, Size};

    fn step(name: &str, parents: &[&str], minutes: u64) -> (PlannedStep, StepSpec) {
        let size = Size {
            runner_type: "t".into(),
            cpu: 2,
            memory_gb: 4,
            time_budget_min: 600,
            tier: "language_default".into(),
        };
        let parents: Vec<LayerName> = parents.iter().map(|parent| LayerName::from(*parent)).collect();
        let spec = StepSpec { layer: name.into(), parents: parents.clone(), reuse: None, sizes: vec![size.clone()] };
        let step = PlannedStep {
            layer: name.into(),
            action: Action::Build,
            why: Vec::new(),
            key: LayerKey(Digest::of(name)),
            parents,
            wave: 1,
            size,
            image: name.to_owned(),
            digest: None,
            estimate_ms: (minutes > 0).then_some(minutes * 60_000),
        };
        (step, spec)
    }

    #[test]
    fn leases_are_packed_and_started_hours_counted() {
        let (steps, specs): (Vec<_>, Vec<_>) =
            [step("a", &[], 30), step("b", &["a"], 50), step("c", &["a"], 20), step("d", &["b"], 0)]
                .into_iter()
                .unzip();
        let prices = [("t".to_owned(), 10_000)].into();
        let limits = Limits { width: 2, packed: true, prices, currency: "EUR".into(), ..Limits::default() };
        let forecast = forecast(&Plan { steps }, specs, limits);
        // One runner takes a, b and d, into its second hour; the other c.
        let expected = Forecast {
            leases: 2,
            started_hours: 3,
            wall_ms: (80 * 60 + 45) * 1000,
            currency: "EUR".into(),
            micros: 30_000,
            unknown: 1,
        };
        assert_eq!(forecast, expected);
    }
}
