//! Whether images go to a registry or to an OCI layout. Not responsible for: opening either (see `images`).

use super::config::Config;
use crate::app::Error;
use crate::domain::model::{Classified, FaultClass, RegistryProvider, RegistrySettings};

/// The workflow selects a registry without naming one.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("the workflow sets `registry_provider = 'registry` but has no `registry.address`")]
#[diagnostic(
    code(lian::cli::registry_address),
    help(
        "add `registry = {{ address = \"registry.example/team\" }}` to the workflow, or leave `registry_provider` out"
    )
)]
struct NoAddress;

impl Classified for NoAddress {
    fn class(&self) -> FaultClass {
        FaultClass::Configuration
    }
}

/// The configured registry; `None` if images go to a layout. A layout set for this command overrides the workflow.
pub fn registry_of(config: &Config) -> Result<Option<&RegistrySettings>, Error> {
    let named = config.layout.is_for_this_command();
    match config.workflow.registry_provider {
        RegistryProvider::Registry if !named => match &config.workflow.registry {
            Some(registry) => Ok(Some(registry)),
            None => Err(Error::from(NoAddress)),
        },
        _ => Ok(None),
    }
}
