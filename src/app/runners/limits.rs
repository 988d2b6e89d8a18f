//! Computes a run's inputs: where each step may run, and the run's limits. Not responsible for: running it.

use super::provider_context::ProviderContext;
use crate::app::config::Config;
use crate::app::planning::prepared_plan::PreparedPlan;
use crate::domain::life::{Limits, Placement, StepSpec};
use crate::domain::model::{PlannedStep, RunnerReuse};

/// Concurrency, and what happens after a failure.
#[derive(Debug, Clone, Copy)]
pub struct Concurrency {
    /// Concurrent layers.
    pub width: usize,
    /// Whether to build what does not depend on a failed layer.
    pub keep_going: bool,
}

/// The plan's steps in the form a run needs.
pub fn specs(prepared: &PreparedPlan, provider_context: &ProviderContext) -> Vec<StepSpec> {
    let sizes =
        |step: &PlannedStep| prepared.sizes.get(&step.layer).cloned().unwrap_or_else(|| vec![step.size.clone()]);
    let place = |step: &PlannedStep| {
        // Reused steps need no runner.
        let job = prepared.jobs.get(&step.layer);
        let platform =
            job.map(|job| provider_context.place_of(&sizes(step)[0], &job.request.platforms)).unwrap_or_default();
        Placement { platform, namespace: String::new() }
    };
    let spec = |step: &PlannedStep| StepSpec {
        layer: step.layer.clone(),
        parents: step.parents.clone(),
        reuse: step.digest.clone(),
        place: place(step),
        sizes: sizes(step),
    };
    prepared.plan.steps.iter().map(spec).collect()
}

/// The limits of a run.
pub fn limits(config: &Config, provider_context: &ProviderContext, concurrency: Concurrency) -> Limits {
    let bounds = &config.workflow.runners;
    Limits {
        width: concurrency.width,
        keep_going: concurrency.keep_going,
        claims: true,
        packed: bounds.runner_reuse == RunnerReuse::Packed,
        max_leases: bounds.max_leases,
        max_lifetime: provider_context.lifetime(config),
        prices: provider_context.prices(),
        currency: provider_context.currency(),
        max_cost_micros: bounds.max_cost.map(micros),
        ..Limits::default()
    }
}

/// Millionths of the currency's unit; smaller fractions are ignored.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a price is positive and small")]
fn micros(units: f64) -> u64 {
    (units * 1e6).round().max(0.0) as u64
}
