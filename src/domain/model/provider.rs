//! The provider and the runner settings of a workflow (`schemas/runners.ncl`). Not responsible for: which providers
//! exist and their own settings (`adapters/providers/`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A provider's name as Nickel writes it, without the tick: `docker_local`. The adapters define which names exist.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProviderName(Cow<'static, str>);

/// The error for an invalid provider name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the name of a provider: lower-case letters, digits and `_`, beginning with a letter")]
pub struct ProviderNameError(String);

impl ProviderName {
    /// A name known at compile time.
    ///
    /// # Panics
    /// If the text is not a name; in a constant this is a compile error.
    pub const fn from_static(name: &'static str) -> Self {
        assert!(is_name(name), "invariant: the name of a provider is lower-case letters, digits and `_`");
        Self(Cow::Borrowed(name))
    }

    /// As Nickel writes it, without the tick.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

const fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut index = 0;
    while index < bytes.len() {
        let letter = bytes[index].is_ascii_lowercase();
        let other = bytes[index].is_ascii_digit() || bytes[index] == b'_';
        if !letter && (index == 0 || !other) {
            return false;
        }
        index += 1;
    }
    !bytes.is_empty()
}

impl Default for ProviderName {
    /// This machine: the default of the contract `Workflow`.
    fn default() -> Self {
        Self::from_static("local")
    }
}

impl TryFrom<String> for ProviderName {
    type Error = ProviderNameError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        if is_name(&name) { Ok(Self(Cow::Owned(name))) } else { Err(ProviderNameError(name)) }
    }
}

impl From<ProviderName> for String {
    fn from(name: ProviderName) -> Self {
        name.0.into_owned()
    }
}

impl std::fmt::Display for ProviderName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The settings of providers, by provider. Each provider reads its own; `schemas/providers/` checks them.
pub type ProviderSettings = BTreeMap<ProviderName, serde_json::Value>;

/// How a context is transferred to a runner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContextTransfer {
    /// By rsync to the runner's `/workspace/`, where buildctl runs; images go from there to a registry.
    #[default]
    Rsync,
    /// buildctl runs here, over a forwarded socket: context, secrets and registry credentials stay here.
    Session,
}

/// What a lease is used for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunnerReuse {
    /// Several builds in sequence, as long as the layers fit.
    #[default]
    Packed,
    /// One build.
    PerBuild,
}

/// How runners are used, independent of the provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunnerSettings {
    /// How contexts are transferred.
    pub context_transfer: ContextTransfer,
    /// What a lease is used for.
    pub runner_reuse: RunnerReuse,
    /// Maximum cost of a run, in the provider's currency.
    pub max_cost: Option<f64>,
    /// Maximum concurrent leases; 0 means no separate limit.
    pub max_leases: usize,
    /// Boot timeout in seconds; the runner is then released.
    pub boot_timeout_s: u64,
    /// Maximum lifetime of a runner, minutes.
    pub max_lifetime_min: u64,
}

impl Default for RunnerSettings {
    fn default() -> Self {
        Self {
            context_transfer: ContextTransfer::default(),
            runner_reuse: RunnerReuse::default(),
            max_cost: None,
            max_leases: 0,
            boot_timeout_s: 180,
            max_lifetime_min: 240,
        }
    }
}

/// A registry as an image store. Credentials come from `~/.docker/config.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrySettings {
    /// `host[:port][/prefix]`.
    pub address: String,
    /// Whether to use plain HTTP.
    #[serde(default)]
    pub plain_http: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_lower_case_letters_digits_and_underscores() {
        for name in ["local", "docker_local", "a1"] {
            let read: ProviderName = serde_json::from_value(name.into()).expect(name);
            assert_eq!(read.as_str(), name);
        }
        for text in ["", "Local", "docker-local", "1a", "_a", "a b", "ä"] {
            assert!(ProviderName::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
