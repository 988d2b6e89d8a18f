//! A runner's size, as plans and programs read it. Refuses: deciding it (`sizing` does).

use serde::{Deserialize, Serialize};

/// A runner's size: what a step asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// The provider's or the tier's name, e.g. `cax21`, `local`.
    pub runner_type: String,
    /// Virtual CPUs.
    pub cpu: u32,
    /// Memory, GB.
    pub memory_gb: u32,
    /// A build over it is cancelled, minutes.
    pub time_budget_min: u32,
    /// Which tier decided: `explicit`, `p95` or `language_default`.
    pub tier: String,
}
