//! Where a command's images live: in the OCI layout, or in the registry that the workflow names. Not responsible for: how either
//! works.

use std::path::PathBuf;
use std::sync::Arc;

use crate::adapters::registry::{Address, OciLayout, Registry};
use crate::app::Error;
use crate::app::config::Config;
use crate::domain::model::{RegistryProvider, RegistrySettings};
use crate::domain::ports::ImageStore;

/// The workflow wants a registry and does not say which.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("the workflow says `registry_provider = 'registry` and has no `registry.address`")]
#[diagnostic(
    code(lian::cli::registry_address),
    help(
        "add `registry = {{ address = \"registry.example/team\" }}` to the workflow, or leave `registry_provider` out"
    )
)]
struct NoAddress;

/// The registry that images live in; `None` where they live in a layout. A layout that was named on the command line wins
/// over the workflow.
fn chosen(settings: &Config) -> Result<Option<&RegistrySettings>, Error> {
    let named = settings.layout != own_layout(settings);
    match settings.workflow.registry_provider {
        RegistryProvider::Registry if !named => match &settings.workflow.registry {
            Some(registry) => Ok(Some(registry)),
            None => Err(Error::configuration(NoAddress)),
        },
        _ => Ok(None),
    }
}

fn own_layout(settings: &Config) -> PathBuf {
    settings.project.layout()
}

/// The registries (`host[:port]`) that our own daemon must speak to without TLS.
pub fn http_registries(settings: &Config) -> Vec<String> {
    let registry = chosen(settings).ok().flatten().filter(|registry| registry.plain_http);
    registry
        .and_then(|registry| Address::try_from(registry).ok())
        .map(|address| address.host().to_owned())
        .into_iter()
        .collect()
}

/// Opens the store; a layout is made where there is none.
pub fn open(settings: &Config) -> Result<Arc<dyn ImageStore>, Error> {
    match registry(settings)? {
        Some(registry) => Ok(registry),
        None => Ok(Arc::new(OciLayout::open(&settings.layout)?)),
    }
}

/// Opens the store without making anything: `None` where there is no layout yet.
pub fn open_existing(settings: &Config) -> Result<Option<Arc<dyn ImageStore>>, Error> {
    match registry(settings)? {
        Some(registry) => Ok(Some(registry)),
        None if settings.layout.join("index.json").is_file() => open(settings).map(Some),
        None => Ok(None),
    }
}

fn registry(settings: &Config) -> Result<Option<Arc<dyn ImageStore>>, Error> {
    let Some(registry) = chosen(settings)? else { return Ok(None) };
    let address = Address::try_from(registry).map_err(Error::configuration)?;
    let registry = Registry::new(address, settings.project.state())?;
    Ok(Some(Arc::new(registry)))
}
