//! The record of a run's provider in the ledger, so that another process can release its leases. Not responsible for:
//! the ledger; secrets (of credentials only a salted digest is kept).

use std::hash::{BuildHasher as _, Hasher as _};
use std::path::Path;
use std::sync::Arc;

use super::provider_options::to_give_back;
use crate::adapters::providers::{Descriptor, Settings, registry};
use crate::adapters::store::{Known, RentedFrom};
use crate::app::Error;
use crate::app::config::Config;
use crate::app::trust;
use crate::domain::base::{Digest, LeaseId};
use crate::domain::model::{Fault, FaultKind, ProviderName, ProviderSettings};
use crate::domain::ports::{ComputeProvider, Resource};
use crate::system::user_key::UserKey;

/// The record beside a run's leases. Older versions wrote every provider's settings, null if absent.
#[derive(serde::Serialize, serde::Deserialize)]
struct ProviderRecord {
    compute_provider: ProviderName,
    providers: ProviderSettings,
    /// Identifies the account.
    #[serde(default)]
    account: Option<Account>,
    /// That this user's lian-build wrote it, for this lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mark: Option<String>,
}

/// A digest of endpoint and token, with its salt.
#[derive(serde::Serialize, serde::Deserialize)]
struct Account {
    salt: String,
    digest: Digest,
}

/// The provider that a run recorded.
pub struct RecordedProvider {
    /// With current credentials.
    pub provider: Arc<dyn ComputeProvider>,
    /// Whether the run used other credentials: its lease may then be invisible to the current ones.
    pub elsewhere: bool,
}

/// Provider and settings as JSON, without secrets; `None` if leases end with their process.
pub(super) fn written(descriptor: &Descriptor, providers: &ProviderSettings) -> Result<Option<String>, Error> {
    if !descriptor.runners.outlive_process {
        return Ok(None);
    }
    let own = providers.get_key_value(&descriptor.name);
    let settings = Settings::new(&descriptor.name, own.map(|(_, value)| value));
    let salt = format!("{:016x}", std::hash::RandomState::new().build_hasher().finish());
    let account = (descriptor.account)(&settings, &salt).map_err(Error::outside)?;
    let record = ProviderRecord {
        compute_provider: descriptor.name.clone(),
        providers: own.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        account: account.map(|digest| Account { salt, digest }),
        mark: None,
    };
    Ok(Some(text_of(&record)))
}

/// What is marked, and in which version of these fields.
const KIND: &str = "lease 1";
const KNOWN: &str = "known of a lease 1";

/// The record of a run as it stands beside each of its leases: with this user's mark over provider, address, account and
/// lease. Without one it is a stranger's, so far as anybody knows.
pub fn bound(record: String, user: &Path) -> Bound {
    let key = UserKey::make(user).inspect_err(|error| tracing::warn!("leases are not marked as yours: {error}")).ok();
    Bound { record, key }
}

/// What a run writes beside its leases. What becomes known of them is marked, too: a release goes by it, whatever it is.
pub struct Bound {
    record: String,
    key: Option<UserKey>,
}

impl RentedFrom for Bound {
    fn provider(&self, lease: &LeaseId) -> String {
        let parsed = serde_json::from_str::<ProviderRecord>(&self.record).ok();
        let marked = self.key.as_ref().zip(parsed).map(|(key, parsed)| {
            let mark = Some(key.mark(&[KIND, lease.as_str(), &text_of(&parsed)]));
            text_of(&ProviderRecord { mark, ..parsed })
        });
        marked.unwrap_or_else(|| self.record.clone())
    }

    fn mark(&self, lease: &LeaseId, resource: &Resource) -> Option<String> {
        self.key.as_ref().map(|key| with_fields(lease, resource, |fields| key.mark(fields)))
    }
}

/// What this user's lian-build wrote down of a lease, and what somebody else did, or an older version.
pub fn split(lease: &LeaseId, known: Vec<Known>, key: Option<&UserKey>) -> (Vec<Resource>, Vec<Resource>) {
    let is_own = |known: &Known| {
        let marked = key.zip(known.mark.as_ref());
        marked.is_some_and(|(key, mark)| with_fields(lease, &known.resource, |fields| key.is_mark(fields, mark)))
    };
    let (own, others): (Vec<Known>, Vec<Known>) = known.into_iter().partition(is_own);
    let resources = |known: Vec<Known>| known.into_iter().map(|known| known.resource).collect();
    (resources(own), resources(others))
}

fn with_fields<T>(lease: &LeaseId, Resource { kind, id, name }: &Resource, with: impl FnOnce(&[&str]) -> T) -> T {
    let is_named = if name.is_some() { "named" } else { "unnamed" };
    with(&[KNOWN, lease.as_str(), kind, id, is_named, name.as_deref().unwrap_or_default()])
}

/// A lease's record without its mark, and whether this user's lian-build wrote it for this lease.
pub fn unbound(record: &str, lease: &LeaseId, key: Option<&UserKey>) -> (String, bool) {
    let Ok(mut parsed) = serde_json::from_str::<ProviderRecord>(record) else { return (record.to_owned(), false) };
    let mark = parsed.mark.take();
    let bare = text_of(&parsed);
    let is_own = key.zip(mark).is_some_and(|(key, mark)| key.is_mark(&[KIND, lease.as_str(), &bare], &mark));
    (bare, is_own)
}

fn text_of(record: &ProviderRecord) -> String {
    serde_json::to_string(record).expect("invariant: settings are JSON")
}

/// Parses a run's record. Where the run was this user's own (`is_own`), its credential may go again where it went.
pub fn read(record: &str, is_own: bool, config: &Config) -> Result<RecordedProvider, Error> {
    let record: ProviderRecord = serde_json::from_str(record).map_err(|error| {
        let message = format!("the ledger's record of its provider cannot be read: {error}");
        Error::outside(Fault::new(FaultKind::Unavailable, "lian::providers::record", message))
    })?;
    let descriptor = registry().find(&record.compute_provider).map_err(Error::outside)?;
    let settings = Settings::new(&descriptor.name, record.providers.get(&descriptor.name));
    let elsewhere = match &record.account {
        Some(then) => {
            (descriptor.account)(&settings, &then.salt).map_err(Error::outside)?.as_ref() != Some(&then.digest)
        }
        None => false,
    };
    // Another credential never went there, whoever's the run was.
    if !is_own || elsewhere || record.account.is_none() {
        trust::recorded_endpoint(config, descriptor, &settings)?;
    }
    let provider = (descriptor.build)(&settings, to_give_back(&config.project)).map_err(Error::outside)?;
    Ok(RecordedProvider { provider, elsewhere })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nowhere() -> Config {
        let root = std::path::Path::new("/");
        Config::of_project(Project::of_folder(root, Some(&root.join("nowhere"))).expect("a project"), None)
    }
    use crate::adapters::providers::builtin;
    use crate::app::project::Project;

    /// The format of versions that knew every provider's settings by type.
    const OLD: &str = r#"{"compute_provider":"docker_local","providers":{"docker_local":{"image":"moby/buildkit:v0.32.2",
        "sizes":[{"cpu":2,"memory_gb":4}],"network":null},"ssh":{"hosts":[]},"hcloud":{"image":"debian-13",
        "prepared":false,"locations":["fsn1"],"server_types":["cax11"],"labels":{},"ipv4":true,
        "buildkit":{"url":null,"sha256":{}}},"proxmox":null,"vm_pool":null},"account":null}"#;

    fn fault_of(record: &str) -> String {
        read(record, false, &nowhere()).err().expect("it cannot be read").to_string()
    }

    #[test]
    fn what_older_versions_wrote_can_be_read() {
        assert!(!read(OLD, false, &nowhere()).expect("a provider").elsewhere);
        let without_account = OLD.replace(r#","account":null"#, "");
        assert!(!read(&without_account, false, &nowhere()).expect("a provider").elsewhere);
        let nothing_set = OLD.replace("docker_local\",\"prov", "proxmox\",\"prov");
        assert!(nothing_set.contains(r#""compute_provider":"proxmox""#));
        assert_eq!(fault_of(&nothing_set), "the workflow lacks `providers.proxmox`");
    }

    #[test]
    fn a_record_holds_the_settings_of_its_own_provider_and_knows_its_account() {
        let name = ProviderName::from_static("docker_local");
        let docker = builtin().find(&name).expect("known").clone();
        let own = serde_json::json!({ "image": "own", "sizes": [], "network": null });
        let other = (ProviderName::from_static("ssh"), serde_json::json!({ "hosts": [] }));
        let providers = ProviderSettings::from([(name, own.clone()), other]);
        let record = written(&docker, &providers).expect("written").expect("its leases outlive the process");
        let json: serde_json::Value = serde_json::from_str(&record).expect("json");
        assert_eq!(json["compute_provider"], "docker_local");
        assert_eq!(json["providers"], serde_json::json!({ "docker_local": own }));
        assert!(!read(&record, false, &nowhere()).expect("a provider").elsewhere);
        let salt = json["account"]["salt"].as_str().expect("a salt");
        let other = record.replace(salt, "0000000000000000");
        assert!(read(&other, false, &nowhere()).expect("a provider").elsewhere);
    }

    #[test]
    fn a_row_that_names_an_address_of_nobody_gets_no_token() {
        let record = r#"{"compute_provider":"vm_pool","providers":{"vm_pool":{"endpoint":"http://127.0.0.1:1",
            "workspace":"w"}}}"#;
        let fault = fault_of(record);
        assert!(fault.contains("http://127.0.0.1:1") && fault.contains("not granted"), "{fault}");
        let mut trusting = nowhere();
        trusting.trust.given = crate::app::trust::Given::All;
        assert!(read(record, false, &trusting).is_ok());
    }

    #[test]
    fn a_row_is_this_users_for_its_lease_its_address_and_its_account_alone() {
        let (own, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let key = |folder: &tempfile::TempDir| UserKey::make(folder.path()).expect("a key");
        let record = r#"{"compute_provider":"vm_pool","providers":{"vm_pool":{"endpoint":"http://127.0.0.1:1",
            "workspace":"w"}},"account":{"salt":"s","digest":"DIGEST"}}"#
            .replace("DIGEST", Digest::of("x").as_str());
        let lease = LeaseId::from("r-1");
        let row = bound(record, own.path()).provider(&lease);
        let is_own = |row: &str, lease: &str, key: &UserKey| unbound(row, &LeaseId::from(lease), Some(key)).1;
        assert!(is_own(&row, "r-1", &key(&own)));
        let (bare, _) = unbound(&row, &lease, None);
        assert!(!bare.contains("mark") && !is_own(&bare, "r-1", &key(&own)));
        assert!(!is_own(&row, "r-2", &key(&own)) && !is_own(&row, "r-1", &key(&other)));
        assert!(!unbound(&row, &lease, None).1 && !is_own("{}", "r-1", &key(&own)));
        for (from, to) in [(":1\"", ":2\""), ("\"w\"", "\"v\""), ("vm_pool\",", "proxmox\","), ("\"s\"", "\"t\"")] {
            let changed = row.replacen(from, to, 1);
            assert!(changed != row && !is_own(&changed, "r-1", &key(&own)), "{changed}");
        }
    }

    #[test]
    fn what_is_known_of_a_lease_is_this_users_for_its_lease_its_kind_its_id_and_its_name_alone() {
        let (own, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let writer = bound("{}".to_owned(), own.path());
        let key = UserKey::read(own.path()).expect("readable").expect("it was made");
        let others_key = UserKey::make(other.path()).expect("a key");
        let lease = LeaseId::from("r-1");
        let server = Resource::new("server", 42).named("lian-r-1");
        let mark = writer.mark(&lease, &server);
        let is_own = |resource: &Resource, mark: &Option<String>, lease: &str, key: Option<&UserKey>| {
            let known = Known { resource: resource.clone(), mark: mark.clone() };
            let (own, others) = split(&LeaseId::from(lease), vec![known], key);
            assert_eq!(own.len() + others.len(), 1);
            !own.is_empty()
        };
        assert!(is_own(&server, &mark, "r-1", Some(&key)));
        for changed in [
            Resource::new("server", 42),
            Resource::new("server", 43).named("lian-r-1"),
            Resource::new("ssh_key", 42).named("lian-r-1"),
            Resource::new("server", 42).named("other"),
            Resource::new("server", 42).named(""),
        ] {
            assert!(!is_own(&changed, &mark, "r-1", Some(&key)), "{changed:?}");
        }
        assert!(!is_own(&server, &mark, "r-2", Some(&key)) && !is_own(&server, &None, "r-1", Some(&key)));
        assert!(!is_own(&server, &mark, "r-1", Some(&others_key)) && !is_own(&server, &mark, "r-1", None));
    }

    #[test]
    fn what_ends_with_its_process_is_not_recorded() {
        for name in ["local", "ssh"] {
            let descriptor = builtin().find(&ProviderName::from_static(name)).expect("known").clone();
            assert_eq!(written(&descriptor, &ProviderSettings::new()).expect("written"), None, "{name}");
        }
    }

    #[test]
    fn a_provider_of_a_newer_version_is_named() {
        let newer = OLD.replace("\"docker_local\",", "\"moon_base\",");
        assert_eq!(fault_of(&newer), "this lian-build has no provider `moon_base`");
    }
}
