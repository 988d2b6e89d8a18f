//! Which providers may stand in for this machine where nobody named one and it cannot build as it is. Not responsible
//! for: asking them (see `session`), providers that a flag names.

use crate::adapters::buildkit::{Daemon, DaemonConfig};
use crate::adapters::providers::{Descriptor, registry};
use crate::app::config::Config;

/// Why this machine cannot build what the configuration leaves to it; `None` if it can, or if it is not asked to.
pub fn needed(config: &Config) -> Option<String> {
    let descriptor = config.descriptor().ok()?;
    let is_chosen = config.provider.is_for_this_command() || descriptor.runners.leased;
    if is_chosen { None } else { cannot_build() }
}

/// The configuration with each provider that may stand in for this machine, and that provider's flag.
pub fn instead(config: &Config) -> impl Iterator<Item = (&'static str, Config)> + '_ {
    registry().iter().filter(|other| other.runners.stands_in).map(|other| {
        let mut instead = config.clone();
        instead.provider.value = other.name.clone();
        (other.flag, instead)
    })
}

/// Why this machine cannot build as it is.
pub fn cannot_build() -> Option<String> {
    Daemon::can_be_had(&DaemonConfig::from_env().ok()?).err().map(|error| error.to_string())
}

/// The provider that would stand in for this machine.
pub fn stand_in() -> Option<&'static Descriptor> {
    registry().iter().find(|other| other.runners.stands_in)
}
