//! What lian-build knows of a kind of provider before it rents anything: each provider's folder has a [`Descriptor`]. Not
//! responsible for: which providers there are (see `registry`), and renting.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::host_probe::HostProbe;
use crate::domain::base::{Digest, Platform};
use crate::domain::model::{Fault, ProviderName};
use crate::domain::ports::ComputeProvider;

/// Makes a provider from its settings.
pub type Build = fn(&Settings<'_>, ProviderOptions) -> Result<Arc<dyn ComputeProvider>, Fault>;

/// A kind of provider: constants that the rest of lian-build goes by instead of the name, and what makes one.
#[derive(Debug, Clone)]
pub struct Descriptor {
    /// Its name in Nickel: `compute_provider = 'docker_local`, `providers.docker_local`.
    pub name: ProviderName,
    /// Its name on the command line: `--provider docker-local`.
    pub flag: &'static str,
    /// One line of help for `--provider`.
    pub summary: &'static str,
    /// What its runners are like.
    pub runners: RunnerTraits,
    /// How its runners let us in over SSH.
    pub login: Login,
    /// What `providers.<name>` of a workflow may say; none where there is nothing to say.
    pub settings: Option<SettingsSchema>,
    /// The setting that `--location` replaces, a list of texts.
    pub location_setting: Option<&'static str>,
    /// A digest of the account that the environment's credentials are for, with a salt. None where there is no account, or
    /// no credentials are given.
    pub account: fn(&Settings<'_>, &str) -> Result<Option<Digest>, Fault>,
    /// Makes the provider. Nothing is rented yet.
    pub build: Build,
}

/// What runners of a provider are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunnerTraits {
    /// Other machines than this one: images come from there over the network, and `serve` can lease them to others.
    pub remote: bool,
    /// Leased in a size and for a time. Else a runner is this machine as it is.
    pub leased: bool,
    /// Nobody sends a bill: `max_cost` needs no prices.
    pub free_of_charge: bool,
    /// They stay when the process that leased them dies: their leases are written to the ledger, to be given back later.
    pub outlive_process: bool,
    /// Hosts of a fixed list, each one lease's alone. Else there are as many as one asks for.
    pub fixed_hosts: bool,
    /// From asking for one to building on it, for forecasts.
    pub boot: Duration,
}

/// How runners let us in over SSH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Login {
    /// A key that is not accepted at once is tried again for so long; for the whole time that a runner has to become ready
    /// where unset.
    pub patience: Option<Duration>,
    /// The next action where the key is not accepted at all.
    pub hint: Option<&'static str>,
}

impl Login {
    /// The key is put in place while the machine boots.
    pub const WHILE_BOOTING: Self = Self { patience: None, hint: None };
}

/// What `providers.<name>` of a workflow may say.
#[derive(Debug, Clone, Copy)]
pub struct SettingsSchema {
    /// What the provider is, for readers of the schema.
    pub summary: &'static str,
    /// The Nickel file `schemas/providers/<name>.ncl`, whose value is the contract.
    pub contract: &'static str,
    /// The fields of each closed record in it by the field that holds it, the provider's own name first: for help with a
    /// misspelt one.
    pub records: &'static [(&'static str, &'static [&'static str])],
    /// Fills in what is unset, and resolves paths (see [`resolved`]).
    pub resolve: fn(&Settings<'_>, &Resolve<'_>) -> Result<Value, Fault>,
}

/// Makes a path that is relative to the workflow's folder usable from the working directory.
pub type Resolve<'a> = dyn Fn(&Path) -> PathBuf + 'a;

/// What a workflow or the ledger says of a provider.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    provider: &'a ProviderName,
    value: Option<&'a Value>,
}

impl<'a> Settings<'a> {
    /// Those of `provider`. Null is as good as nothing: older versions wrote it.
    pub fn new(provider: &'a ProviderName, value: Option<&'a Value>) -> Self {
        Self { provider, value: value.filter(|value| !value.is_null()) }
    }

    /// As the provider reads them; none where nothing is said.
    ///
    /// # Errors
    /// `lian::providers::settings` where the schema let something pass that the provider does not read.
    pub fn read<T: DeserializeOwned>(&self) -> Result<Option<T>, Fault> {
        self.value.map(T::deserialize).transpose().map_err(|error| {
            let message = format!("`providers.{}` cannot be read: {error}", self.provider);
            Fault::configuration("lian::providers::settings", message)
                .help("compare it with `docs/providers/`; a ledger may also come from a newer lian-build")
        })
    }

    /// As the provider reads them, where it cannot do without.
    ///
    /// # Errors
    /// As [`read`](Self::read), and `lian::cli::missing_setting`.
    pub fn demand<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        self.read()?.ok_or_else(|| missing_setting(&format!("providers.{}", self.provider)))
    }
}

/// Settings with everything filled in, their paths resolved by `resolve_paths`, as JSON again.
///
/// # Errors
/// As [`Settings::read`].
pub fn resolved<T: DeserializeOwned + Serialize>(
    settings: &Settings<'_>,
    resolve_paths: impl FnOnce(&mut T),
) -> Result<Value, Fault> {
    let mut read: Option<T> = settings.read()?;
    if let Some(read) = &mut read {
        resolve_paths(read);
    }
    Ok(serde_json::to_value(read).expect("invariant: settings are plain data"))
}

/// The workflow names a provider and not what it needs.
pub fn missing_setting(field: &str) -> Fault {
    Fault::configuration("lian::cli::missing_setting", format!("the workflow lacks `{field}`")).help(
        "set it in the workflow (docs/providers/ has a snippet for each provider), or choose another `compute_provider`",
    )
}

/// What a provider is given beside its own settings.
pub struct ProviderOptions {
    /// Whether runners will be leased. Else leases are only listed and given back: what only leasing needs may lack.
    pub leases: bool,
    /// A runner has so long from being asked for to being ready.
    pub boot_timeout: Duration,
    /// Tells the leases of this user on this machine from others'.
    pub owner: String,
    /// The folder for the key pairs of leases.
    pub keys: PathBuf,
    /// The folder that all runs of this user share.
    pub data: PathBuf,
    /// What this machine builds for by itself, e.g. `linux/amd64`.
    pub platform: Platform,
    /// Registries (`host[:port]`) that are spoken to without TLS.
    pub http_registries: Vec<String>,
    /// CA certificates (PEM) that are trusted beside none other.
    pub ca_bundle: Option<PathBuf>,
    /// Asks hosts of a fixed list whether they are free.
    pub host_probe: Arc<dyn HostProbe>,
}
