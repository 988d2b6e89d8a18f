//! The target platforms of each layer of a catalog. Not responsible for: deciding them (see `platforms`).

use std::collections::BTreeMap;

use crate::domain::base::{LayerName, Platform, Platforms};
use crate::domain::model::Declared;

/// The target platforms of layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetPlatforms {
    /// For layers that declare none, and for substituted external images.
    pub default: Platform,
    /// For layers that declare none and whose runner type decides.
    pub decided: BTreeMap<LayerName, Platform>,
}

impl TargetPlatforms {
    /// One platform for all layers that declare none.
    pub fn all(default: Platform) -> Self {
        Self { default, decided: BTreeMap::new() }
    }

    /// A layer's target platforms: its own, else that of its requested runner type, else the default.
    pub fn of(&self, declared: &Declared) -> Platforms {
        let decided = || self.decided.get(&declared.layer.name).unwrap_or(&self.default).clone().into();
        Platforms::of(&declared.layer.platforms).unwrap_or_else(decided)
    }
}
