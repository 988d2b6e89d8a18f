//! The limits of a run: how many steps at the same time, how long, at what cost. Not responsible for: what happens at a
//! limit.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The last part of a lease's life that is not used for work: a kill and a release take time, and the machine may end
/// itself at its expiry.
const MARGIN: Duration = Duration::from_secs(60);

/// The limits of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// How many steps may run at the same time; at least 1.
    pub width: usize,
    /// Whether independent layers continue after a failure.
    pub keep_going: bool,
    /// How many new leases a step may get after infrastructure faults.
    pub infrastructure_retries: u32,
    /// The pause before the first retry. It doubles for each further one.
    pub retry_pause: Duration,
    /// How many tries to release a lease may fail before it counts as stuck; one try where another
    /// gets the same answer.
    pub release_tries: u32,
    /// Whether steps have time budgets.
    pub budgets: bool,
    /// Whether a step claims its key before it gets a runner: other runs may build the same key.
    #[serde(default)]
    pub claims: bool,
    /// Whether a lease that is still good takes the next layer that fits.
    pub packed: bool,
    /// How many leases may exist at the same time; 0 means no limit.
    pub max_leases: usize,
    /// The maximum lifetime of a lease, counted from its request; `None` means no limit.
    pub max_lifetime: Option<Duration>,
    /// The price of a started hour by runner type, in millionths of the currency's unit.
    pub prices: BTreeMap<String, u64>,
    /// The currency of the prices (ISO 4217).
    pub currency: String,
    /// The maximum cost of the run, in millionths of the currency's unit.
    pub max_cost_micros: Option<u64>,
}

impl Limits {
    /// How long after its request a lease may be used: its lifetime without the last minute or the last tenth.
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
            claims: false,
            packed: false,
            max_leases: 0,
            max_lifetime: None,
            prices: BTreeMap::new(),
            currency: String::new(),
            max_cost_micros: None,
        }
    }
}
