//! Where the user says that credentials go: variables, and `config.toml` in the user's configuration folder. Not
//! responsible for: what a project says of it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::TrustError;
use super::grants;
use super::peers;
use super::policy::Given;
use super::want::Kind;
use crate::adapters::providers::{Descriptor, Reach, ReachKind, Settings, registry};
use crate::app::Error;
use crate::app::config::Config;
use crate::system::confined;
use crate::system::http::same_address;

/// A configuration is a few lines.
const MOST: u64 = 64 << 10;

/// The user's configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserConfig {
    /// Where each provider's credential goes.
    #[serde(default)]
    endpoints: BTreeMap<String, OwnEndpoint>,
}

/// Where a provider's credential goes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum OwnEndpoint {
    /// The address alone.
    Address(String),
    /// Also how it is recognised.
    Known(KnownEndpoint),
}

/// An address, and how it is recognised.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownEndpoint {
    address: String,
    fingerprint: Option<String>,
    ca: Option<PathBuf>,
}

impl From<OwnEndpoint> for KnownEndpoint {
    fn from(own: OwnEndpoint) -> Self {
        match own {
            OwnEndpoint::Address(address) => Self { address, ..Self::default() },
            OwnEndpoint::Known(known) => known,
        }
    }
}

/// Whether the user said, for all projects, that the provider's credential goes to this address, and where the project
/// says how it is recognised, the same of that.
pub fn endpoint_is_configured(config: &Config, descriptor: &Descriptor, reach: &Reach) -> Result<bool, Error> {
    let Some(credential) = &descriptor.credential else { return Ok(false) };
    let given = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let variable = given(credential.endpoint_variable);
    let peers = credential.peer_variables;
    let (fingerprint, ca) = (peers.and_then(|known| given(known.fingerprint)), peers.and_then(|known| given(known.ca)));
    let by_variables = variable.is_some() && (reach.peer.is_none() || fingerprint.is_some() || ca.is_some());
    let written = if by_variables { None } else { read()?.endpoints.remove(descriptor.name.as_str()) };
    let written = written.map(KnownEndpoint::from).filter(|own| same_address(&own.address, &reach.what));
    let is_it = match &variable {
        Some(own) => same_address(own, &reach.what),
        None => written.is_some(),
    };
    let written = written.unwrap_or_default();
    let fingerprint = fingerprint.or(written.fingerprint);
    let ca = ca.map(PathBuf::from).or(written.ca);
    Ok(is_it
        && reach.peer.as_ref().is_none_or(|peer| peers::is_users(config, peer, fingerprint.as_deref(), ca.as_deref())))
}

/// Refuses an address in the ledger's record of a provider that is neither configured nor granted by now.
pub fn recorded_endpoint(config: &Config, descriptor: &Descriptor, settings: &Settings<'_>) -> Result<(), Error> {
    let Some(credential) = &descriptor.credential else { return Ok(()) };
    let reaches = (descriptor.reach)(settings).map_err(Error::outside)?;
    for reach in reaches.into_iter().filter(|reach| reach.kind == ReachKind::Endpoint) {
        let known = match &config.trust.given {
            Given::All => true,
            given => {
                let mut known = grants::read(&config.project)?;
                if let Given::File(file) = given {
                    known.extend(grants::in_file(file)?);
                }
                let terms = peers::terms(config, &reach);
                let is_it = |grant: &grants::Grant| {
                    grant.kind == Kind::Endpoint && same_address(&grant.what, &reach.what) && grant.has_terms(&terms)
                };
                known.iter().any(is_it) || endpoint_is_configured(config, descriptor, &reach)?
            }
        };
        if !known {
            let variable = credential.endpoint_variable;
            return Err(TrustError::LedgerEndpoint { endpoint: reach.what, variable }.into());
        }
    }
    Ok(())
}

fn read() -> Result<UserConfig, Error> {
    let Some(path) = place(&|name| std::env::var_os(name)) else { return Ok(UserConfig::default()) };
    read_at(&path).map_err(|what| TrustError::UserConfig { path, what }.into())
}

/// `lian-build/config.toml` in `XDG_CONFIG_HOME`, else in `~/.config`.
fn place(given: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let given = |name: &str| given(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = given("XDG_CONFIG_HOME").or_else(|| given("HOME").map(|home| home.join(".config")))?;
    Some(folder.join("lian-build/config.toml"))
}

/// Links are followed: the user's configuration may lie in a repository of dotfiles.
fn read_at(path: &Path) -> Result<UserConfig, String> {
    let actual = match std::fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(UserConfig::default()),
        found => found.map_err(|error| error.to_string())?,
    };
    let (folder, name) = (actual.parent().unwrap_or(Path::new("/")), actual.file_name().unwrap_or_default());
    let bytes = confined::open(folder).and_then(|folder| folder.read(name, MOST)).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|error| error.to_string())?;
    let config: UserConfig = toml::from_str(&text).map_err(|error| error.to_string().trim_end().to_owned())?;
    for (name, own) in &config.endpoints {
        let known = registry().iter().find(|known| known.name.as_str() == *name);
        match known.and_then(|known| known.credential) {
            Some(credential) if credential.peer_variables.is_none() && matches!(own, OwnEndpoint::Known(_)) => {
                return Err(format!("`endpoints.{name}` is its address alone: a text"));
            }
            Some(credential) if credential.in_settings => {}
            Some(credential) => {
                return Err(format!("the address of `{name}` is {}'s alone", credential.endpoint_variable));
            }
            None => return Err(format!("`endpoints.{name}` is no provider with a token")),
        }
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_configuration_is_found_read_and_told_apart_from_nonsense() {
        let with = |variables: &[(&str, &str)]| {
            place(&|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()))
        };
        assert_eq!(with(&[("HOME", "/h")]), Some("/h/.config/lian-build/config.toml".into()));
        assert_eq!(with(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")]), Some("/x/lian-build/config.toml".into()));
        assert_eq!(with(&[("XDG_CONFIG_HOME", "here")]), None, "a clone is no place for it");
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("config.toml");
        assert!(read_at(&file).expect("nothing").endpoints.is_empty());
        let read = |text: &str| {
            std::fs::write(&file, text).expect("written");
            read_at(&file)
        };
        let config = read("[endpoints]\nvm_pool = \"https://pool.example\"\n").expect("sound");
        assert_eq!(config.endpoints["vm_pool"], OwnEndpoint::Address("https://pool.example".to_owned()));
        read("[endpoints.proxmox]\naddress = \"https://p:8006\"\nfingerprint = \"AB\"\n").expect("sound");
        for bad in [
            "[endpoints]\nlocal = \"x\"",
            "[endpoints]\nhcloud = \"x\"",
            "[endpoint]\nvm_pool = \"x\"",
            "[endpoints",
            "[endpoints]\nvm_pool = 1",
            "[endpoints.vm_pool]\naddress = \"https://p\"",
            "[endpoints.proxmox]\naddress = \"https://p\"\nfinger = \"AB\"",
            "[endpoints.proxmox]\nfingerprint = \"AB\"",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read(&"#".repeat(70_000)).expect_err("too long").contains("longer"));
    }
}
