//! What each layer of a catalog is built for. Not responsible for: deciding it (see `platforms`).

use std::collections::BTreeMap;

use crate::domain::base::LayerName;
use crate::domain::model::Declared;

/// The platforms of layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetPlatforms {
    /// Of layers that name none, and of the external images that are substituted.
    pub default: String,
    /// Of layers that name none, and whose runner type decides.
    pub decided: BTreeMap<LayerName, String>,
}

impl TargetPlatforms {
    /// One platform for all layers that name none.
    pub fn all(default: String) -> Self {
        Self { default, decided: BTreeMap::new() }
    }

    /// The platform that a layer is built for: its own, that of the runner type that was named for it, or the default.
    pub fn of(&self, declared: &Declared) -> String {
        if declared.layer.platforms.is_empty() {
            return self.decided.get(&declared.layer.name).unwrap_or(&self.default).clone();
        }
        declared.layer.platforms.join(",")
    }
}
