//! What a run would do, and why. Not responsible for: deciding it (see `plan`), showing it (`report`) and doing it
//! (`life`).

use serde::{Deserialize, Serialize};

use super::image_name::TaggedName;
use super::key::LayerKey;
use super::size::Size;
use crate::domain::base::{Digest, LayerName};

/// What is done with a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is built.
    Build,
    /// An image with its key is there.
    Reuse,
}

/// The kind of cause for a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyKind {
    /// No image of this layer is known.
    New,
    /// The Dockerfile changed.
    Dockerfile,
    /// Files of the context changed, or the ignore file.
    Context,
    /// Modes of the context's files changed as they do under another umask, and nothing else of them.
    Modes,
    /// A parent is built in this plan.
    Base,
    /// A build argument changed.
    BuildArg,
    /// The promised tools or artifact paths changed.
    Tools,
    /// An external image has another digest now.
    BaseMoved,
    /// The user forced it.
    Forced,
    /// Target, labels, platform, frontend or secret ids changed.
    Settings,
}

/// Why an image that is there cannot be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// This user's lian-build did not write its record.
    NotYours,
    /// A part of it is missing, or is not what its digest says.
    Damaged,
}

impl Unusable {
    /// The reason, in words for people.
    pub fn told(self) -> &'static str {
        match self {
            Self::NotYours => "its record was not written by you",
            Self::Damaged => "its image is damaged",
        }
    }
}

/// One cause, in words for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// The kind of cause.
    pub kind: WhyKind,
    /// The details: `src/main.rs, +2 more` for a context, the parent's name for a base, the argument's name. It may be
    /// empty.
    pub detail: String,
}

/// The work on one layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// The layer.
    pub layer: LayerName,
    /// What is done with it.
    pub action: Action,
    /// The causes, the first ones first; empty for a reuse.
    pub why: Vec<Why>,
    /// The key of its content.
    pub key: LayerKey,
    /// The layers that it waits for.
    pub parents: Vec<LayerName>,
    /// Its wave, counted from 1: one more than the highest wave of its parents.
    pub wave: usize,
    /// The runner's size.
    pub size: Size,
    /// The name that the image gets: `lamina/rust:latest`.
    pub image: TaggedName,
    /// The reused image.
    pub digest: Option<Digest>,
    /// The estimated duration from earlier builds, in milliseconds.
    pub estimate_ms: Option<u64>,
}

/// What a run would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// In topological order.
    pub steps: Vec<PlannedStep>,
}

/// The expected cost and duration of a plan on leased runners.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// The number of leases.
    pub leases: usize,
    /// The number of started hours, over all leases.
    pub started_hours: u64,
    /// The time from the first lease to the last image, in milliseconds. Layers that were never built before count as
    /// nothing.
    pub wall_ms: u64,
    /// The currency (ISO 4217); empty if nothing has a price.
    pub currency: String,
    /// The cost in millionths of the currency's unit.
    pub micros: u64,
    /// How many layers were never built before. If there are any, all numbers are lower bounds.
    pub unknown: usize,
}

/// The number of steps by action.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanSummary {
    /// Steps to build.
    pub build: usize,
    /// Steps to reuse.
    pub reuse: usize,
}

impl Plan {
    /// How many layers this action applies to.
    pub fn count(&self, action: Action) -> usize {
        self.steps.iter().filter(|step| step.action == action).count()
    }

    /// How many steps are built, and how many reused.
    pub fn summary(&self) -> PlanSummary {
        let build = self.count(Action::Build);
        PlanSummary { build, reuse: self.steps.len() - build }
    }

    /// The layers of each wave, in the plan's order.
    pub fn waves(&self) -> Vec<Vec<&LayerName>> {
        let last = self.steps.iter().map(|step| step.wave).max().unwrap_or(0);
        (1..=last)
            .map(|wave| self.steps.iter().filter(|step| step.wave == wave).map(|step| &step.layer).collect())
            .collect()
    }

    /// The step of a layer.
    pub fn step(&self, layer: &LayerName) -> Option<&PlannedStep> {
        self.steps.iter().find(|step| step.layer == *layer)
    }
}
