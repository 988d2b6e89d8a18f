//! What lian-build knows about a kind of provider before it leases anything; each provider's folder has a
//! [`Descriptor`]. Not responsible for: which providers exist (see `registry`), and leasing.

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
use crate::domain::sizing::SizeAlias;

/// Creates a provider from its settings.
pub type Build = fn(&Settings<'_>, ProviderOptions) -> Result<Arc<dyn ComputeProvider>, Fault>;

/// A kind of provider: its properties, which other code uses instead of its name, and its constructor.
#[derive(Debug, Clone)]
pub struct Descriptor {
    /// Its name in Nickel: `compute_provider = 'docker_local`, `providers.docker_local`.
    pub name: ProviderName,
    /// Its name on the command line: `--provider docker-local`.
    pub flag: &'static str,
    /// One line of help for `--provider`.
    pub summary: &'static str,
    /// Properties of its runners.
    pub runners: RunnerTraits,
    /// How its runners accept our SSH key.
    pub login: Login,
    /// Schema of `providers.<name>` in a workflow; `None` if the provider has no settings.
    pub settings: Option<SettingsSchema>,
    /// Its own names for size tiers, e.g. `cax11` for `small`. They work with every provider.
    pub size_aliases: &'static [SizeAlias],
    /// The setting that `--location` replaces; a list of strings.
    pub location_setting: Option<&'static str>,
    /// What it takes of the user's environment to be let in; `None` if it needs nothing.
    pub credential: Option<Credential>,
    /// What its settings reach for in the user's world. A project may write them, so the user is asked first.
    pub reach: fn(&Settings<'_>) -> Result<Vec<Reach>, Fault>,
    /// Salted digest of the account behind the environment's credentials. `None` if there is no account or no
    /// credentials are set.
    pub account: fn(&Settings<'_>, &str) -> Result<Option<Digest>, Fault>,
    /// Creates the provider; leases nothing yet.
    pub build: Build,
}

/// Properties of a provider's runners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunnerTraits {
    /// Runners are other machines: images are transferred over the network, and `serve` can lease them to others.
    pub remote: bool,
    /// Leased with a size and an expiry. Otherwise the runner is this machine as it is.
    pub leased: bool,
    /// Costs nothing: `max_cost` needs no prices.
    pub free_of_charge: bool,
    /// Runners outlive the process that leased them, so leases are recorded in the ledger for later release.
    pub outlive_process: bool,
    /// A fixed list of hosts, each exclusive to one lease. Otherwise the number of runners is not limited.
    pub fixed_hosts: bool,
    /// Taken by itself where nobody names a provider, this machine cannot build as it is, and this one has an offer.
    pub stands_in: bool,
    /// Typical time from request to ready, for forecasts.
    pub boot: Duration,
}

impl RunnerTraits {
    /// Machines that are made for a lease and billed until they are deleted. Their boot of 45 s was measured on Hetzner
    /// Cloud; the other phases of a lease are short in comparison.
    pub const RENTED: Self = Self {
        remote: true,
        leased: true,
        free_of_charge: false,
        outlive_process: true,
        fixed_hosts: false,
        stands_in: false,
        boot: Duration::from_secs(45),
    };
}

/// What a provider takes of the user's environment to be let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credential {
    /// The variables that hold it, or that name its file. No build is ever given them.
    pub variables: &'static [&'static str],
    /// The variable by which the user says where it goes.
    pub endpoint_variable: &'static str,
    /// Whether a workflow's settings name the address, too.
    pub in_settings: bool,
    /// The variables by which the user says how the API is recognised; `None` if settings say nothing of it.
    pub peer_variables: Option<PeerVariables>,
}

/// The variables by which the user says how an API is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerVariables {
    /// Holds the fingerprint of its certificate.
    pub fingerprint: &'static str,
    /// Names the file of its CA.
    pub ca: &'static str,
}

/// How the API at an address is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// By the SHA-256 fingerprint of its certificate.
    Fingerprint(String),
    /// By a certificate of the CA in this file.
    Ca(PathBuf),
}

/// Something of the user's world that a provider's settings reach for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// What it is.
    pub kind: ReachKind,
    /// Which one, as it is shown.
    pub what: String,
    /// Whatever else must stay as it is for a grant to hold, e.g. a pinned key.
    pub terms: String,
    /// How an endpoint is recognised, where settings say it: whoever answers by another certificate gets the credential, too.
    pub peer: Option<Peer>,
}

impl Reach {
    /// Something without terms.
    pub fn of(kind: ReachKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), terms: String::new(), peer: None }
    }
}

/// The kinds of what settings reach for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReachKind {
    /// The address that the credential is sent to.
    Endpoint,
    /// A host to log in to with the user's keys.
    Host,
    /// An image that runs privileged on this machine, or a program that runs as root on what is rented.
    Image,
    /// A network of this machine that runners join.
    Network,
}

/// For providers whose settings reach for nothing.
pub fn no_reach(_: &Settings<'_>) -> Result<Vec<Reach>, Fault> {
    Ok(Vec::new())
}

/// How runners accept our SSH key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Login {
    /// How long to retry a rejected key; if unset, as long as the runner may take to become ready.
    pub patience: Option<Duration>,
    /// Suggested action if the key is never accepted.
    pub hint: Option<&'static str>,
}

impl Login {
    /// For machines that install the key while they boot.
    pub const WHILE_BOOTING: Self = Self { patience: None, hint: None };
}

/// Schema of `providers.<name>` in a workflow.
#[derive(Debug, Clone, Copy)]
pub struct SettingsSchema {
    /// Description of the provider, for readers of the schema.
    pub summary: &'static str,
    /// Content of `schemas/providers/<name>.ncl`, which evaluates to the contract.
    pub contract: &'static str,
    /// Fields of each closed record in it, keyed by the field that holds the record; the provider's own name first.
    /// Used to suggest corrections of misspelt fields.
    pub records: &'static [(&'static str, &'static [&'static str])],
    /// Fills in defaults and resolves paths (see [`resolved`]).
    pub resolve: fn(&Settings<'_>, &Resolve<'_>) -> Result<Value, Fault>,
}

/// Resolves a path relative to the workflow's folder.
pub type Resolve<'a> = dyn Fn(&Path) -> PathBuf + 'a;

/// A provider's settings from a workflow or the ledger.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    provider: &'a ProviderName,
    value: Option<&'a Value>,
}

impl<'a> Settings<'a> {
    /// The settings of `provider`. Null counts as absent: older versions wrote it.
    pub fn new(provider: &'a ProviderName, value: Option<&'a Value>) -> Self {
        Self { provider, value: value.filter(|value| !value.is_null()) }
    }

    /// The parsed settings; `None` if absent.
    ///
    /// # Errors
    /// `lian::providers::settings` if the provider cannot parse a value that the schema accepted.
    pub fn read<T: DeserializeOwned>(&self) -> Result<Option<T>, Fault> {
        self.value.map(T::deserialize).transpose().map_err(|error| {
            let message = format!("`providers.{}` cannot be read: {error}", self.provider);
            Fault::configuration("lian::providers::settings", message)
                .help("compare it with `docs/providers/`; a ledger may also come from a newer lian-build")
        })
    }

    /// The parsed settings, for providers that require them.
    ///
    /// # Errors
    /// As [`read`](Self::read), and `lian::cli::missing_setting`.
    pub fn demand<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        self.read()?.ok_or_else(|| missing_setting(&format!("providers.{}", self.provider)))
    }
}

/// Settings as JSON with defaults filled in and paths resolved by `resolve_paths`.
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

/// The workflow names a provider but lacks its required settings.
pub fn missing_setting(field: &str) -> Fault {
    Fault::configuration("lian::cli::missing_setting", format!("the workflow lacks `{field}`")).help(
        "set it in the workflow (docs/providers/ has a snippet for each provider), or choose another `compute_provider`",
    )
}

/// What a provider gets besides its own settings.
pub struct ProviderOptions {
    /// Whether runners will be leased. Otherwise leases are only listed and released, and settings needed only for
    /// leasing may be missing.
    pub leases: bool,
    /// Time limit from requesting a runner until it is ready.
    pub boot_timeout: Duration,
    /// Identifies this user's leases on this machine among those of others.
    pub owner: String,
    /// Folder of the leases' key pairs.
    pub keys: PathBuf,
    /// Folder shared by all runs of this user.
    pub data: PathBuf,
    /// This machine's native platform, e.g. `linux/amd64`.
    pub platform: Platform,
    /// Registries (`host[:port]`) reached without TLS.
    pub http_registries: Vec<String>,
    /// Trusted CA certificates (PEM); no others are trusted.
    pub ca_bundle: Option<PathBuf>,
    /// Checks whether fixed hosts are free.
    pub host_probe: Arc<dyn HostProbe>,
}
