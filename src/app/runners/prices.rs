//! Checks whether a cost limit can be enforced. Not responsible for: enforcing it (see `domain::life`).

use crate::app::Error;
use crate::domain::model::{Classified, FaultClass, Offer, RunnerSettings};

/// A cost limit that cannot be enforced.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("`max_cost` cannot be enforced: the provider reports no price for {runner_type}")]
#[diagnostic(
    code(lian::cli::no_price),
    help("remove {runner_type} from what the provider may rent, or `runners.max_cost` from the workflow")
)]
struct NoPrice {
    runner_type: String,
}

impl Classified for NoPrice {
    fn class(&self) -> FaultClass {
        FaultClass::Configuration
    }
}

/// Rejects a cost limit if a runner has no price. Free runners need none.
pub fn check(runners: &RunnerSettings, free_of_charge: bool, offers: &[Offer]) -> Result<(), Error> {
    match offers.iter().find(|offer| offer.price.is_none()) {
        Some(offer) if runners.max_cost.is_some() && !free_of_charge => {
            Err(Error::from(NoPrice { runner_type: offer.runner_type.clone() }))
        }
        _ => Ok(()),
    }
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
        let mut runners = RunnerSettings::default();
        assert!(check(&runners, false, &offers).is_ok(), "no bound, no question");
        runners.max_cost = Some(1.0);
        let refused = check(&runners, false, &offers).expect_err("cax21 has no price");
        assert!(refused.to_string().contains("cax21"), "{refused}");
        assert_eq!(refused.class, FaultClass::Configuration);
        assert!(check(&runners, false, &offers[..1]).is_ok());
        assert!(check(&runners, true, &offers).is_ok(), "hosts of one's own are free");
    }
}
