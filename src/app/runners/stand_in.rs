//! Chooses the provider where nobody named one and this machine cannot build as it is. Not responsible for: providers
//! that a flag names.

use super::provider_context;
use crate::adapters::buildkit::{Daemon, DaemonConfig};
use crate::adapters::providers::{Descriptor, registry};
use crate::app::config::Config;
use crate::domain::model::Fault;

/// The configuration, with a provider that stands in for this machine where it has no BuildKit of its own and the
/// provider has something to offer. Says so.
#[must_use]
pub fn settled(config: Config) -> Config {
    let Ok(descriptor) = config.descriptor() else { return config };
    if config.provider.is_for_this_command() || descriptor.runners.leased {
        return config;
    }
    let Some(why) = cannot_build() else { return config };
    let mut settled = config.clone();
    for other in registry().iter().filter(|other| other.runners.stands_in) {
        settled.provider.value = other.name.clone();
        match offers(&settled) {
            Ok(()) => {
                tracing::warn!("{why}: it is built by `--provider {}` instead", other.flag);
                return settled;
            }
            Err(fault) => tracing::debug!("`--provider {}` cannot stand in: {}", other.flag, fault.message),
        }
    }
    config
}

/// Why this machine cannot build as it is.
pub fn cannot_build() -> Option<String> {
    Daemon::can_be_had(&DaemonConfig::from_env().ok()?).err().map(|error| error.to_string())
}

/// The provider that would stand in for this machine.
pub fn stand_in() -> Option<&'static Descriptor> {
    registry().iter().find(|other| other.runners.stands_in)
}

/// Whether the provider has something to offer.
fn offers(config: &Config) -> Result<(), Fault> {
    let broken = |error: &dyn std::fmt::Display| Fault::configuration("lian::cli::machine", error.to_string());
    let provider = provider_context::provider(config).map_err(|error| broken(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| broken(&error))?;
    runtime.block_on(provider.offers()).map(drop)
}
