//! What a run would do and why: the planner's answer, drawn by `report` and performed by `life`. Not responsible for: deciding it.

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

/// A first cause of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyKind {
    /// No image of this layer is known.
    New,
    /// The Dockerfile changed.
    Dockerfile,
    /// Files of the context changed, or the ignore file.
    Context,
    /// A parent is built in this plan.
    Base,
    /// A build argument changed.
    BuildArg,
    /// The tools or artifact paths that are promised changed.
    Tools,
    /// An external image means another digest.
    BaseMoved,
    /// The caller said so.
    Forced,
    /// Target, labels, platform, frontend or secret ids changed.
    Settings,
}

/// One cause in people's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// Which.
    pub kind: WhyKind,
    /// What exactly: `src/main.rs, +2 more` for a context, the parent's name for a base, the argument's name; may be
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
    /// First causes; empty for a reuse.
    pub why: Vec<Why>,
    /// Everything that decides its content.
    pub key: LayerKey,
    /// The layers that it waits for.
    pub parents: Vec<LayerName>,
    /// One more than the highest wave of its parents, from 1.
    pub wave: usize,
    /// What it runs on.
    pub size: Size,
    /// The name that the image gets: `lamina/rust:latest`.
    pub image: TaggedName,
    /// The reused image.
    pub digest: Option<Digest>,
    /// From earlier builds, milliseconds.
    pub estimate_ms: Option<u64>,
}

/// What a run would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// In topological order.
    pub steps: Vec<PlannedStep>,
}

/// What carrying a plan out on leased runners is expected to come to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// RunnerSettings leased in all.
    pub leases: usize,
    /// Hours started, of all of them.
    pub started_hours: u64,
    /// From the first lease to the last image, milliseconds; layers that were never built count as nothing.
    pub wall_ms: u64,
    /// ISO 4217; empty where nothing has a price.
    pub currency: String,
    /// Millionths of its unit.
    pub micros: u64,
    /// Layers that were never built before: all numbers are at least what is said.
    pub unknown: usize,
}

/// How much of it there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanSummary {
    /// Steps to build.
    pub build: usize,
    /// Steps to reuse.
    pub reuse: usize,
}

impl Plan {
    /// How many layers this is done about.
    pub fn count(&self, action: Action) -> usize {
        self.steps.iter().filter(|step| step.action == action).count()
    }

    /// How many steps are built and reused.
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
