//! Where a command's images live: the OCI layout, or the registry that the workflow names. Not responsible for: both of their insides.

use std::path::PathBuf;
use std::sync::Arc;

use crate::adapters::registry::{Address, InUse, KeepPolicy, OciLayout, Registry};
use crate::app::Error;
use crate::app::config::Config;
use crate::domain::model::{RegistryProvider, RegistrySettings};
use crate::domain::ports::{ImageStore, ImageStoreError};

/// An image store, as the settings choose it.
pub enum Images {
    /// A folder on this machine.
    Layout(Arc<OciLayout>),
    /// A registry.
    Registry(Arc<Registry>),
}

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

/// What the settings say of a registry; none where images live in a layout. A layout that was named on the command line
/// wins over the workflow.
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

impl Images {
    /// Opens the store; a layout is made where there is none.
    pub fn open(settings: &Config) -> Result<Self, Error> {
        match Self::registry(settings)? {
            Some(registry) => Ok(registry),
            None => Ok(Self::Layout(Arc::new(OciLayout::open(&settings.layout)?))),
        }
    }

    /// Opens the store without making anything: none where there is no layout yet.
    pub fn open_existing(settings: &Config) -> Result<Option<Self>, Error> {
        match Self::registry(settings)? {
            Some(registry) => Ok(Some(registry)),
            None if settings.layout.join("index.json").is_file() => Self::open(settings).map(Some),
            None => Ok(None),
        }
    }

    fn registry(settings: &Config) -> Result<Option<Self>, Error> {
        let Some(registry) = chosen(settings)? else { return Ok(None) };
        let address = Address::try_from(registry).map_err(Error::configuration)?;
        let registry = Registry::new(address, settings.project.state())?;
        Ok(Some(Self::Registry(Arc::new(registry))))
    }

    /// The store.
    pub fn store(&self) -> &dyn ImageStore {
        match self {
            Self::Layout(layout) => &**layout,
            Self::Registry(registry) => &**registry,
        }
    }

    /// The store, to be kept.
    pub fn shared(&self) -> Arc<dyn ImageStore> {
        match self {
            Self::Layout(layout) => Arc::clone(layout) as Arc<dyn ImageStore>,
            Self::Registry(registry) => Arc::clone(registry) as Arc<dyn ImageStore>,
        }
    }

    /// Says that its images are in use, where anybody on this machine could remove them.
    pub fn in_use(&self) -> Result<Option<InUse>, ImageStoreError> {
        match self {
            Self::Layout(layout) => layout.in_use().map(Some),
            Self::Registry(_) => Ok(None),
        }
    }

    /// Removes what nothing needs any more, where that is ours to decide.
    pub fn tidy(&self) -> Result<(), ImageStoreError> {
        match self {
            Self::Layout(layout) => layout.collect(KeepPolicy::default()).map(drop),
            Self::Registry(_) => Ok(()),
        }
    }

    /// The images that have a `latest`, where the store can list them.
    pub fn built(&self) -> Result<Vec<String>, ImageStoreError> {
        match self {
            Self::Layout(layout) => {
                let latest = layout.list()?.into_iter().filter(|image| image.tag == "latest");
                Ok(latest.map(|image| image.name).collect())
            }
            Self::Registry(_) => Ok(Vec::new()),
        }
    }
}
