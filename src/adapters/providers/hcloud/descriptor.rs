//! Descriptor of the provider `'hcloud`. Not responsible for: the servers.

use std::sync::Arc;

use super::access::Access;
use super::api::Timeouts;
use super::project::Hcloud;
use super::settings::HcloudSettings;
use crate::adapters::providers::descriptor::{
    Credential, Descriptor, Login, ProviderOptions, Reach, ReachKind, RunnerTraits, Settings, SettingsSchema, resolved,
};
use crate::domain::model::{Fault, ProviderName};
use crate::domain::ports::ComputeProvider;
use crate::domain::sizing::SizeAlias;

/// Hetzner Cloud.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: ProviderName::from_static("hcloud"),
    flag: "hcloud",
    summary: "Hetzner Cloud",
    runners: RunnerTraits::RENTED,
    login: Login::WHILE_BOOTING,
    settings: Some(SettingsSchema {
        summary: "Servers of a Hetzner Cloud project; the token is in HCLOUD_TOKEN.",
        contract: include_str!("../../../../schemas/providers/hcloud.ncl"),
        records: &[
            ("hcloud", &["image", "prepared", "locations", "server_types", "labels", "ipv4", "buildkit"]),
            ("buildkit", &["url", "sha256"]),
        ],
        resolve: |settings, _| resolved(settings, |_: &mut HcloudSettings| {}),
    }),
    size_aliases: &[
        SizeAlias { name: "cax11", tier: "small" },
        SizeAlias { name: "cax21", tier: "medium" },
        SizeAlias { name: "cax31", tier: "large" },
        SizeAlias { name: "cax41", tier: "xlarge" },
    ],
    location_setting: Some("locations"),
    credential: Some(Credential {
        variables: &["HCLOUD_TOKEN", "HCLOUD_TOKEN_FILE"],
        endpoint_variable: "HCLOUD_ENDPOINT",
        in_settings: false,
        peer_variables: None,
    }),
    reach,
    account: |_, salt| Ok(Some(Access::from_env()?.digest(salt))),
    build,
};

/// BuildKit of another place than its own, which is root on the machines and is lent logins to registries.
fn reach(settings: &Settings<'_>) -> Result<Vec<Reach>, Fault> {
    let settings: HcloudSettings = settings.read()?.unwrap_or_default();
    let sums = settings.buildkit.sha256;
    let reach = |url| Reach { terms: format!("{sums:?}"), ..Reach::of(ReachKind::Image, url) };
    Ok(settings.buildkit.url.filter(|_| !settings.prepared).map(reach).into_iter().collect())
}

fn build(settings: &Settings<'_>, options: ProviderOptions) -> Result<Arc<dyn ComputeProvider>, Fault> {
    let mut settings: HcloudSettings = settings.read()?.unwrap_or_default();
    // If nothing is leased, the BuildKit settings are not needed.
    settings.prepared |= !options.leases;
    let (access, timeouts) = (Access::from_env()?, Timeouts::with_boot(options.boot_timeout));
    Ok(Arc::new(Hcloud::new(settings, access, options.owner, options.keys, timeouts)?))
}
