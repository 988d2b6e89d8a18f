//! The triggers (`ONBUILD`) of the images that Dockerfiles may be based on: of the catalog's layers, and of substitutes
//! whose config is at hand. Not responsible for: images of a registry (a config there costs a pull).

use crate::app::config::Config;
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

/// The triggers of the external images that have a substitute. One that cannot be read is reported when it is needed.
pub(super) fn of_substitutes(config: &Config, platform: &Platform) -> Triggers {
    let mut triggers = Triggers::new();
    for (name, substitute) in &config.base_images {
        let Ok(reference) = name.parse::<ImageRef>() else { continue };
        let texts = substitute.on_build(platform);
        if !texts.is_empty() {
            triggers.insert(reference.familiar(), dockerfile::triggers_in(&texts));
        }
    }
    triggers
}
