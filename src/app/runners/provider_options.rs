//! What every provider is given beside its own settings. Not responsible for: what only leasing needs (see `provider_context`).

use std::sync::Arc;
use std::time::Duration;

use super::host_probe::Connections;
use crate::adapters::buildkit::data_folder;
use crate::adapters::providers::ProviderOptions;
use crate::app::project::Project;
use crate::domain::base::Digest;
use crate::system::host_platform;

/// For a provider that is only asked to list leases and give them back.
pub(super) fn to_give_back(project: &Project) -> ProviderOptions {
    ProviderOptions {
        leases: false,
        boot_timeout: Duration::from_secs(60),
        owner: owner(),
        keys: project.keys(),
        data: data_folder(),
        platform: host_platform(),
        http_registries: Vec::new(),
        ca_bundle: None,
        host_probe: Arc::new(Connections::default()),
    }
}

/// Who rents, in eight hex digits: this user on this machine.
fn owner() -> String {
    let host = std::fs::read_to_string("/etc/machine-id").or_else(|_| std::fs::read_to_string("/etc/hostname"));
    let seed = format!("{} {}", host.unwrap_or_default().trim(), data_folder().display());
    Digest::of(seed).hex()[..8].to_owned()
}
