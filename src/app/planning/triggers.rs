//! The triggers (`ONBUILD`) of the images that Dockerfiles may be based on: of the catalog's layers, of substitutes whose
//! config is at hand, and of a registry's images as the lock has them. Not responsible for: asking a registry.

use crate::adapters::store;
use crate::app::config::Config;
use crate::app::trust;
use crate::domain::base::Platform;
use crate::domain::dockerfile::{self, Dockerfile, Triggers};
use crate::domain::model::{CatalogSettings, ImageName, ImageRef, Layer};

/// The triggers of layers. Of two layers with one name, the first one counts.
pub(super) fn of_layers<'a>(
    settings: &CatalogSettings,
    files: impl Iterator<Item = (&'a Layer, &'a Dockerfile)>,
) -> Triggers {
    let mut triggers = Triggers::new();
    for (layer, file) in files {
        let image = ImageName::new(&settings.namespace, &layer.name);
        let Ok(reference) = image.as_str().parse::<ImageRef>() else { continue };
        if let Some(needs) = dockerfile::triggers(file, layer.target.as_deref()) {
            triggers.entry(reference.familiar()).or_insert_with(|| needs.clone());
        }
    }
    triggers
}

/// The triggers of the external images that the lock pins, where no substitute stands for them. A lock that cannot be
/// read is reported by whoever needs it.
pub(super) fn of_pins(config: &Config) -> Triggers {
    let lock = store::read_lock(&config.lock).ok().flatten().unwrap_or_default();
    let mut triggers = Triggers::new();
    for (name, pin) in lock.images.iter().filter(|(_, pin)| !pin.on_build.is_empty()) {
        let Ok(reference) = name.parse::<ImageRef>() else { continue };
        if config.substitute(&reference).is_none() {
            triggers.insert(reference.familiar(), dockerfile::triggers_in(&pin.on_build));
        }
    }
    triggers
}

/// The triggers of the external images that have a substitute. One that cannot be read is reported when it is needed; one
/// that is not granted is not read.
pub(super) fn of_substitutes(config: &Config, platform: &Platform) -> Triggers {
    let mut triggers = Triggers::new();
    for (name, substitute) in &trust::with_granted_images(config).base_images {
        let Ok(reference) = name.parse::<ImageRef>() else { continue };
        let texts = substitute.on_build(platform);
        if !texts.is_empty() {
            triggers.insert(reference.familiar(), dockerfile::triggers_in(&texts));
        }
    }
    triggers
}
