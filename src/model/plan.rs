//! A plan, as people and programs read it: what is built or reused, why, and in which order. Refuses: deciding it.

use serde::{Deserialize, Serialize};

use super::key::LayerKey;
use crate::base::{Digest, LayerName};

/// A runner's size: what a step asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// The provider's or the tier's name, e.g. `cax21`.
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

/// What is done about a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is built.
    Build,
    /// An image with its key is there.
    Reuse,
}

/// The kind of a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyKind {
    /// No image of it is known.
    New,
    /// The Dockerfile changed.
    Dockerfile,
    /// Files of the context changed.
    Context,
    /// A parent rebuilds.
    Base,
    /// A build argument changed.
    BuildArg,
    /// The promised tools or artifact paths changed.
    Tools,
    /// An external image's pin moved.
    BaseMoved,
    /// Somebody asked for it.
    Forced,
    /// Target, labels, platform, frontend or the ids of secrets changed.
    Settings,
}

/// One reason why a layer is built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// Its kind.
    pub kind: WhyKind,
    /// In people's words, e.g. `context changed: src/main.rs, +2 more`.
    pub detail: String,
}

/// One layer's work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// The layer.
    pub layer: LayerName,
    /// What is done about it.
    pub action: Action,
    /// Why it is built; empty where it is reused.
    pub why: Vec<Why>,
    /// Its key.
    pub key: LayerKey,
    /// Its parents in the catalog.
    pub parents: Vec<LayerName>,
    /// When it can start: one more than the highest of its parents, from 1.
    pub wave: usize,
    /// What it is built on.
    pub size: Size,
    /// The image's name, e.g. `lamina/rust:latest`.
    pub image: String,
    /// The image to reuse.
    pub digest: Option<Digest>,
    /// What earlier builds took, in milliseconds.
    pub estimate_ms: Option<u64>,
}

/// What would be done, in topological order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Every layer asked for, with its ancestors.
    pub steps: Vec<PlannedStep>,
}

impl Plan {
    /// How many layers this is done about.
    pub fn count(&self, action: Action) -> usize {
        self.steps.iter().filter(|step| step.action == action).count()
    }

    /// The layers' names by wave.
    pub fn waves(&self) -> Vec<Vec<&LayerName>> {
        let depth = self.steps.iter().map(|step| step.wave).max().unwrap_or(0);
        let mut waves = vec![Vec::new(); depth];
        for step in &self.steps {
            waves[step.wave - 1].push(&step.layer);
        }
        waves
    }
}
