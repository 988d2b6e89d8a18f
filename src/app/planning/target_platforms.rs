//! The target platforms of each layer of a catalog. Not responsible for: deciding them (see `platforms`).

use std::collections::BTreeMap;

use crate::domain::base::{LayerName, Platform, Platforms};
use crate::domain::model::{Catalog, Declared};

/// The target platforms of layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetPlatforms {
    /// For layers that declare none.
    pub default: Platform,
    /// For layers that declare none and whose runner type decides.
    pub decided: BTreeMap<LayerName, Platform>,
    /// The platforms of the runners, where these differ from the default.
    pub builders: BTreeMap<LayerName, Platform>,
    /// Whether this is so for all layers: the runners are known. Otherwise it is so for those in `builders`, and a guess
    /// for the others.
    pub known: bool,
}

impl TargetPlatforms {
    /// One platform for all layers that declare none, and for all runners.
    pub fn all(default: Platform) -> Self {
        Self { default, decided: BTreeMap::new(), builders: BTreeMap::new(), known: true }
    }

    /// The same as a guess: the runners are not known.
    pub fn guessed(default: Platform) -> Self {
        Self { known: false, ..Self::all(default) }
    }

    /// A layer's target platforms: its own, else that of its requested runner type, else the default.
    pub fn of(&self, declared: &Declared) -> Platforms {
        let decided = || self.decided.get(&declared.layer.name).unwrap_or(&self.default).clone().into();
        Platforms::of(&declared.layer.platforms).unwrap_or_else(decided)
    }

    /// The platform of the runner that builds a layer.
    pub fn builder(&self, declared: &Declared) -> &Platform {
        self.builders.get(&declared.layer.name).unwrap_or(&self.default)
    }

    /// The platforms of the layers of which they are known.
    pub fn sure(&self, catalog: &Catalog) -> BTreeMap<LayerName, Platforms> {
        let sure = |declared: &&Declared| {
            self.known || !declared.layer.platforms.is_empty() || self.builders.contains_key(&declared.layer.name)
        };
        let layers = catalog.layers.iter().filter(sure);
        layers.map(|declared| (declared.layer.name.clone(), self.of(declared))).collect()
    }
}
