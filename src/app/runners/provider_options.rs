//! Options that every provider gets besides its own settings. Not responsible for: options for leasing only (see
//! `provider_context`).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::host_probe::Connections;
use crate::adapters::providers::ProviderOptions;
use crate::app::project::Project;
use crate::domain::base::Digest;
use crate::system::host_platform;

/// For a provider that only lists and releases leases.
pub(super) fn to_give_back(project: &Project) -> ProviderOptions {
    ProviderOptions {
        leases: false,
        boot_timeout: Duration::from_secs(60),
        owner: owner(project.user()),
        keys: project.keys(),
        data: project.user().to_owned(),
        platform: host_platform(),
        http_registries: Vec::new(),
        ca_bundle: None,
        host_probe: Arc::new(Connections::default()),
    }
}

/// The owner mark of leases, eight hex digits: this user on this machine.
fn owner(user: &Path) -> String {
    let host = std::fs::read_to_string("/etc/machine-id").or_else(|_| std::fs::read_to_string("/etc/hostname"));
    let seed = format!("{} {}", host.unwrap_or_default().trim(), user.display());
    Digest::of(seed).hex()[..8].to_owned()
}
