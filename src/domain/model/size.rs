//! Sizes of runners: what steps ask for and what providers offer. Not responsible for: choosing one (see `sizing`).

use crate::domain::base::Platform;
use serde::{Deserialize, Serialize};

/// The size of a runner that a step asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// The name that the provider or the tier gives it, such as `cax21` or `local`.
    pub runner_type: String,
    /// Virtual CPUs.
    pub cpu: u32,
    /// Memory, GB.
    pub memory_gb: u32,
    /// The time budget in minutes: a longer build is cancelled.
    pub time_budget_min: u32,
    /// What determined the size: `explicit`, `p95` or `language_default`.
    pub tier: String,
}

/// The price of a started hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// The currency (ISO 4217), such as `EUR`.
    pub currency: String,
    /// The amount in millionths of the currency's unit.
    pub hourly_micros: u64,
}

/// A rentable size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// The provider's name for it.
    pub runner_type: String,
    /// Virtual CPUs.
    pub cpu: u32,
    /// Memory, GB.
    pub memory_gb: u32,
    /// The platform of its machines.
    pub platform: Platform,
    /// Its price, if it costs anything and the provider reports it.
    pub price: Option<Price>,
}

/// What a project's builds ask of a runner: the content of `.build-spec.ncl` (contract `BuildSpec`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildSpec {
    /// The main language, which determines the default size.
    pub language: Option<String>,
    /// The name of a size, as the provider or the tier names it.
    pub runner_type: Option<String>,
    /// Virtual CPUs.
    pub cpu: Option<u32>,
    /// Memory, GB.
    pub memory_gb: Option<u32>,
    /// The time budget in minutes: a longer build is cancelled.
    pub time_budget_min: Option<u32>,
}
