//! Opens the image store: the OCI layout, or the workflow's registry. Not responsible for: the stores'
//! implementation.

use std::sync::Arc;

use crate::adapters::registry::{Address, OciLayout, Registry};
use crate::app::Error;
use crate::app::config::Config;
use crate::app::setting::Origin;
use crate::app::store_choice::registry_of;
use crate::app::trust::{self, Purpose};
use crate::domain::model::RegistryProvider;
use crate::domain::ports::ImageStore;

/// Where images go although the workflow's runners may need a registry; `None` if they go to a registry.
pub fn layout_of(config: &Config) -> Result<Option<LayoutReason>, Error> {
    if registry_of(config)?.is_some() {
        return Ok(None);
    }
    Ok(Some(match (config.workflow.registry_provider, config.layout.origin) {
        (RegistryProvider::Registry, Origin::Environment) => LayoutReason::Named("LIAN_LAYOUT"),
        (RegistryProvider::Registry, _) => LayoutReason::Named("--layout"),
        (RegistryProvider::OciLayout, _) => LayoutReason::NoRegistry,
    }))
}

/// Why images go to a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayoutReason {
    /// The workflow has no registry.
    NoRegistry,
    /// The flag or the environment variable of this name overrides the workflow's registry.
    Named(&'static str),
}

/// The registries (`host[:port]`) for which our own daemon must use plain HTTP.
pub fn http_registries(config: &Config) -> Vec<String> {
    let registry = registry_of(config).ok().flatten().filter(|registry| registry.plain_http);
    registry
        .and_then(|registry| Address::try_from(registry).ok())
        .map(|address| address.host().to_owned())
        .into_iter()
        .collect()
}

/// Opens the store; creates a missing layout.
pub fn open(config: &Config) -> Result<Arc<dyn ImageStore>, Error> {
    match registry(config)? {
        Some(registry) => {
            config.project.make_state()?;
            Ok(registry)
        }
        None => {
            if config.layout.origin == Origin::Default {
                config.project.make_state()?;
            }
            Ok(Arc::new(OciLayout::open(&config.layout.value, config.project.user())?))
        }
    }
}

/// Opens the store without creating it: `None` if there is no layout yet.
pub fn open_existing(config: &Config) -> Result<Option<Arc<dyn ImageStore>>, Error> {
    match registry(config)? {
        Some(registry) => Ok(Some(registry)),
        None if OciLayout::is_at(&config.layout)? => open(config).map(Some),
        None => Ok(None),
    }
}

fn registry(config: &Config) -> Result<Option<Arc<dyn ImageStore>>, Error> {
    let Some(registry) = registry_of(config)? else { return Ok(None) };
    trust::demand(config, trust::wants(config, Purpose::Registry)?)?;
    let address = Address::try_from(registry)?;
    let registry = Registry::new(address, config.project.state())?;
    Ok(Some(Arc::new(registry)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::config::Selection;
    use crate::app::setting::{Origin, Setting};
    use crate::domain::model::RegistrySettings;

    #[test]
    fn a_layout_that_is_named_wins_over_the_workflows_registry_wherever_it_lies() {
        let folder = tempfile::tempdir().expect("a folder");
        let catalog = Some(folder.path().join("catalog"));
        let mut config = Config::new(&Selection {
            source: crate::app::config::Source { catalog, ..Default::default() },
            ..Selection::default()
        })
        .expect("a configuration");
        config.workflow.registry_provider = RegistryProvider::Registry;
        config.workflow.registry =
            Some(RegistrySettings { address: "registry.example/team".to_owned(), plain_http: false });
        let own = config.project.layout();
        let mut chosen = |origin| {
            config.layout = Setting { value: own.clone(), origin };
            registry_of(&config).expect("sound").is_some()
        };
        assert!(chosen(Origin::Default));
        assert!(!chosen(Origin::Flag) && !chosen(Origin::Environment), "it was named, though it is the project's own");
    }
}
