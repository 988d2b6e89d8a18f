//! A plan with everything needed to execute it. Not responsible for: creating it.

use std::collections::BTreeMap;

use super::pins::Pins;
use crate::app::execute::Job;
use crate::domain::base::{Digest, LayerName};
use crate::domain::model::{Plan, Size};

/// A plan with everything needed to execute it.
pub struct PreparedPlan {
    /// The steps.
    pub plan: Plan,
    /// The job of every layer that is built.
    pub jobs: BTreeMap<LayerName, Job>,
    /// The images of the reused layers.
    pub digests: BTreeMap<LayerName, Digest>,
    /// External images.
    pub pins: Pins,
    /// The runner sizes of each layer: the first to use, then the larger ones.
    pub sizes: BTreeMap<LayerName, Vec<Size>>,
}
