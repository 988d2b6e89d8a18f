//! A runner's size, as plans and programs read it, and what providers offer. Not responsible for: deciding (`sizing` does).

use crate::domain::base::Platform;
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

/// What a started hour costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// ISO 4217, e.g. `EUR`.
    pub currency: String,
    /// Millionths of the currency's unit.
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
    /// `linux/arm64` and the like.
    pub platform: Platform,
    /// What it costs, where it costs anything and the provider says so.
    pub price: Option<Price>,
}

/// What a project's builds ask of a runner: its `.build-spec.ncl` (contract `BuildSpec`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildSpec {
    /// The main language, for the default size.
    pub language: Option<String>,
    /// The provider's or the tier's name of a size.
    pub runner_type: Option<String>,
    /// Virtual CPUs.
    pub cpu: Option<u32>,
    /// Memory, GB.
    pub memory_gb: Option<u32>,
    /// A build over it is cancelled, minutes.
    pub time_budget_min: Option<u32>,
}
