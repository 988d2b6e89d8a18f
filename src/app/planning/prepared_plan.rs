//! A plan with everything that is needed to carry it out. Not responsible for: making it.

use std::collections::BTreeMap;

use super::pins::Pins;
use crate::app::execute::Job;
use crate::domain::base::{Digest, LayerName};
use crate::domain::model::{Plan, Size};

/// A plan with everything that is needed to carry it out.
pub struct PreparedPlan {
    /// What is done.
    pub plan: Plan,
    /// The work of every layer that is built.
    pub jobs: BTreeMap<LayerName, Job>,
    /// The images of the layers that are reused.
    pub digests: BTreeMap<LayerName, Digest>,
    /// External images.
    pub pins: Pins,
    /// What each layer runs on: the size to begin with, then those above it.
    pub sizes: BTreeMap<LayerName, Vec<Size>>,
}
