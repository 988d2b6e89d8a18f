//! This machine as a provider: every lease is granted at once and needs no release. Not responsible for: how many
//! builds run at once (the run limits that).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use serde::{Deserialize, Serialize};

use super::descriptor::{Descriptor, Login, Reach, ReachKind, RunnerTraits, Settings, SettingsSchema, resolved};
use crate::domain::base::{LeaseId, Platform};
use crate::domain::model::{Fault, ProviderName};
use crate::domain::ports::{AcquireRequest, ComputeProvider, Endpoint, Gone, Lease, LeaseRecord, Offer, OwnedLeases};

/// This machine's BuildKit daemon; the runner is as large as the machine. Nothing is leased, billed or released.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: ProviderName::from_static("local"),
    flag: "local",
    summary: "This machine's BuildKit",
    runners: RunnerTraits {
        remote: false,
        leased: false,
        free_of_charge: true,
        outlive_process: false,
        fixed_hosts: false,
        stands_in: false,
        boot: Duration::ZERO,
    },
    login: Login::WHILE_BOOTING,
    settings: Some(SettingsSchema {
        summary: "Builds on this machine's own BuildKit.",
        contract: include_str!("../../../schemas/providers/local.ncl"),
        records: &[("local", &["network"])],
        resolve: |settings, _| resolved(settings, |_: &mut LocalSettings| {}),
    }),
    size_aliases: &[],
    location_setting: None,
    credential: None,
    reach,
    account: |_, _| Ok(None),
    build: |_, options| Ok(Arc::new(Local::new(options.platform))),
};

/// The settings `providers.local` (`schemas/providers/local.ncl`).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct LocalSettings {
    network: StepNetwork,
}

/// Whose network steps use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StepNetwork {
    #[default]
    Own,
    Host,
}

/// Steps on this machine's network reach what trusts whoever comes from this machine. `LIAN_NETWORK` is the user's own word,
/// which goes before the project's.
fn reach(settings: &Settings<'_>) -> Result<Vec<Reach>, Fault> {
    let settings: LocalSettings = settings.read()?.unwrap_or_default();
    let users = std::env::var_os("LIAN_NETWORK").is_some_and(|word| !word.is_empty());
    let wanted = settings.network == StepNetwork::Host && !users;
    Ok(wanted.then(|| Reach::of(ReachKind::Network, "host")).into_iter().collect())
}

/// The only runner: this machine, always available.
#[derive(Debug, Clone)]
pub struct Local {
    offer: Offer,
}

impl Local {
    /// The name of its only size.
    pub const RUNNER_TYPE: &str = "local";

    /// Creates the provider for this machine's platform, e.g. `linux/amd64`.
    pub fn new(platform: impl Into<Platform>) -> Self {
        let (cpu, memory_gb) = machine();
        let runner_type = Self::RUNNER_TYPE.to_owned();
        Self { offer: Offer { runner_type, cpu, memory_gb, platform: platform.into(), price: None } }
    }
}

/// This machine's CPU count, and its memory rounded to whole GB.
pub fn machine() -> (u32, u32) {
    let cpu = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (u32::try_from(cpu).unwrap_or(u32::MAX), memory_gb().unwrap_or(1))
}

fn memory_gb() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib: u64 =
        text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim().split(' ').next()?.parse().ok()?;
    u32::try_from((kib * 1024 + 500_000_000) / 1_000_000_000).ok()
}

#[async_trait]
impl ComputeProvider for Local {
    async fn offers(&self) -> Result<Vec<Offer>, Fault> {
        Ok(vec![self.offer.clone()])
    }

    async fn acquire(&self, request: &AcquireRequest, _record: &LeaseRecord) -> Result<Lease, Fault> {
        Ok(Lease { id: request.lease.clone(), offer: self.offer.clone(), endpoint: Endpoint::Here, ready_by: None })
    }

    async fn release(&self, _lease: &LeaseId, _record: &LeaseRecord) -> Result<Gone, Fault> {
        Ok(Gone::Absent)
    }

    /// Always empty: a lease on this machine ends with the run that held it.
    async fn owned(&self) -> OwnedLeases {
        OwnedLeases::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::base::{LayerName, RunId};
    use crate::domain::model::Size;

    #[tokio::test]
    async fn grants_whatever_is_asked_under_the_name_it_was_asked() {
        let local = Local::new("linux/arm64");
        let size =
            Size { runner_type: "cax41".into(), cpu: 16, memory_gb: 32, time_budget_min: 30, tier: "explicit".into() };
        let request = AcquireRequest {
            lease: LeaseId::from("l1"),
            run: RunId::from("r"),
            layer: LayerName::from("rust"),
            size,
            platform: "linux/arm64".into(),
            lifetime: std::time::Duration::from_secs(1),
            authorized_key: None,
        };
        let record = LeaseRecord::default();
        let lease = local.acquire(&request, &record).await.expect("a lease");
        assert_eq!((lease.id.as_str(), lease.offer.platform.as_str()), ("l1", "linux/arm64"));
        assert!(lease.offer.cpu >= 1 && lease.offer.memory_gb >= 1);
        local.release(&lease.id, &record).await.expect("given back");
        local.release(&lease.id, &record).await.expect("given back twice");
        assert!(local.owned().await.whole().expect("none").is_empty());
    }
}
