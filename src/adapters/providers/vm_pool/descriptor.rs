//! Descriptor of the provider `'vm_pool`. Not responsible for: talking to the service.

use std::sync::Arc;
use std::time::Duration;

use super::client::VmPool;
use super::settings::VmPoolSettings;
use super::token::PoolToken;
use crate::adapters::providers::descriptor::{
    Credential, Descriptor, Login, ProviderOptions, Reach, ReachKind, RunnerTraits, Settings, SettingsSchema, resolved,
};
use crate::domain::base::Digest;
use crate::domain::model::{Fault, ProviderName};
use crate::domain::ports::ComputeProvider;
use crate::system::http::actual_address;

/// A service that leases runners (`lian-build serve`).
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: ProviderName::from_static("vm_pool"),
    flag: "vm-pool",
    summary: "A service that leases runners",
    runners: RunnerTraits::RENTED,
    login: Login {
        // A pool's machine may still be installing its authorized keys.
        patience: Some(Duration::from_secs(30)),
        // A pool of fixed hosts installs no keys, so a new pair is never accepted.
        hint: Some(
            "where the pool's machines are fixed hosts, set LIAN_POOL_IDENTITY to a private key that they know; else ask its \
             operator",
        ),
    },
    settings: Some(SettingsSchema {
        summary: "A service that leases runners; the token is in LIAN_POOL_TOKEN.",
        contract: include_str!("../../../../schemas/providers/vm_pool.ncl"),
        records: &[("vm_pool", &["endpoint", "workspace"])],
        resolve: |settings, _| resolved(settings, |_: &mut VmPoolSettings| {}),
    }),
    size_aliases: &[],
    location_setting: None,
    credential: Some(Credential {
        variables: &["LIAN_POOL_TOKEN", "LIAN_POOL_TOKEN_FILE", "LIAN_POOL_IDENTITY"],
        endpoint_variable: "LIAN_POOL_ENDPOINT",
        in_settings: true,
        peer_variables: None,
    }),
    reach,
    account,
    build,
};

fn reach(settings: &Settings<'_>) -> Result<Vec<Reach>, Fault> {
    let settings: Option<VmPoolSettings> = settings.read()?;
    let reach = |settings: VmPoolSettings| Reach::of(ReachKind::Endpoint, actual_address(&settings.endpoint));
    Ok(settings.map(reach).into_iter().collect())
}

fn account(settings: &Settings<'_>, salt: &str) -> Result<Option<Digest>, Fault> {
    let token = PoolToken::from_env()?.map(|token| token.digest(salt));
    let settings: Option<VmPoolSettings> = settings.read()?;
    let both = settings.zip(token);
    Ok(both.map(|(settings, token)| Digest::of(format!("{} {token}", settings.endpoint))))
}

fn build(settings: &Settings<'_>, options: ProviderOptions) -> Result<Arc<dyn ComputeProvider>, Fault> {
    Ok(Arc::new(VmPool::from_env(settings.demand()?, options.keys)?))
}
