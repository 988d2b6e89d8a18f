//! What each layer of a catalog is built for. Not responsible for: deciding it (see `platforms`).

use std::collections::BTreeMap;

use crate::domain::base::{LayerName, Platform, Platforms};
use crate::domain::model::Declared;

/// The platforms of layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetPlatforms {
    /// Of layers that name none, and of the external images that are substituted.
    pub default: Platform,
    /// Of layers that name none, and whose runner type decides.
    pub decided: BTreeMap<LayerName, Platform>,
}

impl TargetPlatforms {
    /// One platform for all layers that name none.
    pub fn all(default: Platform) -> Self {
        Self { default, decided: BTreeMap::new() }
    }

    /// What a layer is built for: its own platforms, that of the runner type that was named for it, or the default.
    pub fn of(&self, declared: &Declared) -> Platforms {
        let decided = || self.decided.get(&declared.layer.name).unwrap_or(&self.default).clone().into();
        Platforms::of(&declared.layer.platforms).unwrap_or_else(decided)
    }
}
