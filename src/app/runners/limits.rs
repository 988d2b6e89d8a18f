//! What a run needs to know before it begins: where each step may run, and what bounds the whole. Not responsible for: running it.

use super::provider_context::ProviderContext;
use crate::app::Error;
use crate::app::config::Config;
use crate::app::planning::prepare::PreparedPlan;
use crate::domain::life::{Limits, Placement, StepSpec};
use crate::domain::model::{
    Classified, ComputeProvider as Kind, FaultClass, Offer, PlannedStep, RunnerReuse, Workflow,
};

/// How wide, and what a failure means for the rest.
#[derive(Debug, Clone, Copy)]
pub struct Concurrency {
    /// Layers at once.
    pub width: usize,
    /// Build what does not depend on a failed layer.
    pub keep_going: bool,
}

/// A bound on the cost that could not be kept.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("`max_cost` cannot be kept: nobody says what {runner_type} costs")]
#[diagnostic(
    code(lian::cli::no_price),
    help("take {runner_type} out of what the provider may rent, or `runners.max_cost` out of the workflow")
)]
struct NoPrice {
    runner_type: String,
}

impl Classified for NoPrice {
    fn class(&self) -> FaultClass {
        FaultClass::Configuration
    }
}

/// Refuses a bound on the cost where a runner has no price. Hosts of one's own cost nothing to lease.
pub fn check_prices(workflow: &Workflow, offers: &[Offer]) -> Result<(), Error> {
    let free = matches!(workflow.compute_provider, Kind::Local | Kind::DockerLocal | Kind::Ssh);
    match offers.iter().find(|offer| offer.price.is_none()) {
        Some(offer) if workflow.runners.max_cost.is_some() && !free => {
            Err(Error::from(NoPrice { runner_type: offer.runner_type.clone() }))
        }
        _ => Ok(()),
    }
}

/// The plan's steps as a run needs them.
pub fn specs(prepared: &PreparedPlan, provider_context: &ProviderContext) -> Vec<StepSpec> {
    let sizes =
        |step: &PlannedStep| prepared.sizes.get(&step.layer).cloned().unwrap_or_else(|| vec![step.size.clone()]);
    let place = |step: &PlannedStep| {
        // What is reused runs nowhere.
        let job = prepared.jobs.get(&step.layer);
        let platform =
            job.map(|job| provider_context.place_of(&sizes(step)[0], &job.request.platform)).unwrap_or_default();
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

/// What bounds a run.
pub fn limits(settings: &Config, provider_context: &ProviderContext, concurrency: Concurrency) -> Limits {
    let bounds = &settings.workflow.runners;
    Limits {
        width: concurrency.width,
        keep_going: concurrency.keep_going,
        packed: bounds.runner_reuse == RunnerReuse::Packed,
        max_leases: bounds.max_leases,
        max_lifetime: provider_context.lifetime(settings),
        prices: provider_context.prices(),
        currency: provider_context.currency(),
        max_cost_micros: bounds.max_cost.map(micros),
        ..Limits::default()
    }
}

/// Millionths; a fraction of one is nobody's money.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a price is positive and small")]
fn micros(units: f64) -> u64 {
    (units * 1e6).round().max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::model::Price;

    #[test]
    fn a_bound_on_the_cost_wants_every_price() {
        let price = |known: bool| known.then(|| Price { currency: "EUR".into(), hourly_micros: 5_000 });
        let offer = |name: &str, known| Offer {
            runner_type: name.into(),
            cpu: 2,
            memory_gb: 4,
            platform: "linux/arm64".into(),
            price: price(known),
        };
        let offers = [offer("cax11", true), offer("cax21", false)];
        let mut workflow = Workflow { compute_provider: Kind::Hcloud, ..Workflow::default() };
        assert!(check_prices(&workflow, &offers).is_ok(), "no bound, no question");
        workflow.runners.max_cost = Some(1.0);
        let refused = check_prices(&workflow, &offers).expect_err("cax21 has no price");
        assert!(refused.to_string().contains("cax21"), "{refused}");
        assert_eq!(refused.class, crate::domain::model::FaultClass::Configuration);
        assert!(check_prices(&workflow, &offers[..1]).is_ok());
        workflow.compute_provider = Kind::Ssh;
        assert!(check_prices(&workflow, &offers).is_ok(), "hosts of one's own are free");
    }
}
