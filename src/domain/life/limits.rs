//! What bounds a run: how wide, how long, how dear. Not responsible for: deciding what to do at a bound.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The end of a lease that is not used for work: a kill and a release take their time, and the machine may end by itself at
/// its expiry.
const MARGIN: Duration = Duration::from_secs(60);

/// What bounds a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Steps at the same time, at least 1.
    pub width: usize,
    /// Whether independent layers go on after a failure.
    pub keep_going: bool,
    /// New leases a step may get after infrastructure faults.
    pub infrastructure_retries: u32,
    /// The pause before the first of them; doubled each time.
    pub retry_pause: Duration,
    /// Releases tried before a lease counts as stuck.
    pub release_tries: u32,
    /// Whether steps have time budgets.
    pub budgets: bool,
    /// Whether a lease that is still good takes the next layer that fits.
    pub packed: bool,
    /// Leases at once; 0 is no bound.
    pub max_leases: usize,
    /// No lease lives longer, counted from the moment it is asked for; none where they have no end.
    pub max_lifetime: Option<Duration>,
    /// What a started hour of a runner type costs, millionths of the currency's unit.
    pub prices: BTreeMap<String, u64>,
    /// Of the prices, ISO 4217.
    pub currency: String,
    /// What the run may cost, millionths.
    pub max_cost_micros: Option<u64>,
}

impl Limits {
    /// How long after the ask a lease is used: its lifetime but for the last minute of it, or the last tenth.
    pub fn usable(&self) -> Option<Duration> {
        self.max_lifetime.map(|life| life.saturating_sub(MARGIN.min(life / 10)))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            width: 2,
            keep_going: true,
            infrastructure_retries: 2,
            retry_pause: Duration::from_secs(1),
            release_tries: 5,
            budgets: true,
            packed: false,
            max_leases: 0,
            max_lifetime: None,
            prices: BTreeMap::new(),
            currency: String::new(),
            max_cost_micros: None,
        }
    }
}
