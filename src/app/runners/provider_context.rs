//! Wires a run's provider: which one, with what, and what it offers. Not responsible for: the insides of any, and reaching runners (see
//! `reach`).

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use super::host_probe::Connections;
use super::limits;
use crate::adapters::buildkit::data_folder;
use crate::adapters::providers::{DaemonOptions, Docker, Local, PoolToken, Ssh, VmPool, hcloud, proxmox};
use crate::app::config::Config;
use crate::app::images;
use crate::app::planning::forecast::{self, Fleet};
use crate::app::project::Project;
use crate::app::{Error, UsageError};
use crate::domain::base::Digest;
use crate::domain::model::{
    BuildSpec, ComputeProvider as Kind, ContextTransfer, Declared, Offer, Providers, RegistryProvider, Size,
};
use crate::domain::ports::ComputeProvider;
use crate::domain::sizing;
use crate::system::host_platform;

/// Where a run's runners come from.
#[derive(Clone)]
pub struct ProviderContext {
    /// Rents them.
    pub provider: Arc<dyn ComputeProvider>,
    /// What it has.
    pub offers: Vec<Offer>,
    /// To fixed hosts that were asked whether they are free.
    pub connections: Arc<Connections>,
    /// Which it is, with its settings: enough to give back later what a dead run left. None where nothing is left.
    pub provider_record: Option<String>,
}

impl ProviderContext {
    /// As the settings say. Asks the provider what it offers.
    pub async fn of(settings: &Config) -> Result<Self, Error> {
        let workflow = &settings.workflow;
        let remote = is_remote(workflow.compute_provider);
        let travels = workflow.runners.context_transfer == ContextTransfer::Rsync;
        if remote && travels && workflow.registry_provider == RegistryProvider::OciLayout {
            return Err(Error::from(UsageError::NeedsRegistry));
        }
        let connections = Arc::new(Connections::default());
        let provider = provider_over(settings, &workflow.providers, &connections)?;
        let offers = provider.offers().await.map_err(Error::outside)?;
        limits::check_prices(workflow, &offers)?;
        Ok(Self { provider, offers, connections, provider_record: provider_record(settings)? })
    }

    /// The size a layer begins with, then those it goes on to when memory runs out. This host is as large as it is.
    pub fn sizes(
        &self,
        settings: &Config,
        declared: &Declared,
        spec: Option<&BuildSpec>,
        platform: &str,
    ) -> Result<Vec<Size>, Error> {
        let size = sizing::wanted(spec, declared.layer.language.as_deref(), &self.offers)?;
        if settings.workflow.compute_provider == Kind::Local {
            return Ok(vec![size]);
        }
        let platform = self.place_of(&size, platform);
        Ok(sizing::ladder(&size, &self.offers, &platform)?)
    }

    /// The platform of the runner that builds for these: that of the type that was named is among them, or the first that
    /// there is.
    pub fn place_of(&self, size: &Size, platforms: &str) -> String {
        let said = sizing::named(size, &self.offers).filter(|offer| sizing::is_built_by(platforms, &offer.platform));
        said.map_or_else(|| sizing::runner_platform(platforms, &self.offers), |offer| offer.platform.clone())
    }

    /// What there is to lease, for a forecast.
    pub fn fleet(&self, settings: &Config) -> Fleet {
        match settings.workflow.compute_provider {
            Kind::Ssh => Fleet { boot: Duration::ZERO, hosts: Some(self.offers.clone()) },
            Kind::Local | Kind::DockerLocal => Fleet { boot: Duration::ZERO, hosts: None },
            _ => Fleet { boot: forecast::BOOT, hosts: None },
        }
    }

    /// Whether runners are other machines: images then go to a registry straight from there, where there is one.
    pub fn is_remote(&self, settings: &Config) -> bool {
        is_remote(settings.workflow.compute_provider)
    }

    /// How long a lease may be used; for ever on this host.
    pub fn lifetime(&self, settings: &Config) -> Option<Duration> {
        let leased = settings.workflow.compute_provider != Kind::Local;
        leased.then(|| Duration::from_secs(settings.workflow.runners.max_lifetime_min * 60))
    }

    /// What a started hour of each runner type costs, millionths.
    pub fn prices(&self) -> BTreeMap<String, u64> {
        let price = |offer: &Offer| Some((offer.runner_type.clone(), offer.price.as_ref()?.hourly_micros));
        self.offers.iter().filter_map(price).collect()
    }

    /// Of the prices.
    pub fn currency(&self) -> String {
        let price = self.offers.iter().find_map(|offer| offer.price.as_ref());
        price.map_or_else(String::new, |price| price.currency.clone())
    }

    /// What layers that name no platform are built for.
    pub fn platform(&self) -> String {
        self.offers.first().map_or_else(host_platform, |offer| offer.platform.clone())
    }
}

fn is_remote(kind: Kind) -> bool {
    !matches!(kind, Kind::Local | Kind::DockerLocal)
}

/// The provider that the workflow names.
pub fn provider(settings: &Config) -> Result<Arc<dyn ComputeProvider>, Error> {
    provider_over(settings, &settings.workflow.providers, &Arc::default())
}

/// The provider that the workflow names, to list leases and to give them back: nothing is booted, so where servers get their
/// BuildKit from does not matter.
pub fn provider_for_leases(settings: &Config) -> Result<Arc<dyn ComputeProvider>, Error> {
    let mut providers = settings.workflow.providers.clone();
    providers.hcloud.prepared = true;
    provider_over(settings, &providers, &Arc::default())
}

fn provider_over(
    settings: &Config,
    providers: &Providers,
    connections: &Arc<Connections>,
) -> Result<Arc<dyn ComputeProvider>, Error> {
    let workflow = &settings.workflow;
    let boot = Duration::from_secs(workflow.runners.boot_timeout_s);
    let inside = DaemonOptions {
        http_registries: images::http_registries(settings),
        ca_bundle: settings.ca_bundle.value.clone(),
    };
    let given = Given { boot, inside, connections: Arc::clone(connections) };
    provider_of(workflow.compute_provider, providers, &settings.project, given)
}

/// The provider that a run recorded (see [`ProviderContext::provider_record`]).
pub struct RecordedProvider {
    /// As it is reached now.
    pub provider: Arc<dyn ComputeProvider>,
    /// Whether the run reached it with other credentials: there, its lease may be where these do not look.
    pub elsewhere: bool,
}

/// What a run writes down beside its leases.
#[derive(serde::Serialize, serde::Deserialize)]
struct ProviderRecord {
    compute_provider: Kind,
    providers: Providers,
    /// Tells the account from others.
    #[serde(default)]
    account: Option<Account>,
}

/// A digest of endpoint and token, and what it was salted with.
#[derive(serde::Serialize, serde::Deserialize)]
struct Account {
    salt: String,
    digest: Digest,
}

/// Reads what a run wrote down.
pub fn recorded_provider(provider_record: &str, project: &Project) -> Result<RecordedProvider, Error> {
    let provider_record: ProviderRecord =
        serde_json::from_str(provider_record).map_err(|error| missing(&format!("a readable provider: {error}")))?;
    let elsewhere = match &provider_record.account {
        Some(then) => {
            account(provider_record.compute_provider, &provider_record.providers, &then.salt)?.as_ref()
                != Some(&then.digest)
        }
        None => false,
    };
    let given_back_only =
        Given { boot: Duration::from_secs(60), inside: DaemonOptions::default(), connections: Arc::default() };
    let provider = provider_of(provider_record.compute_provider, &provider_record.providers, project, given_back_only)?;
    Ok(RecordedProvider { provider, elsewhere })
}

/// Whose account the environment's credentials are; none where a provider has none.
fn account(kind: Kind, providers: &Providers, salt: &str) -> Result<Option<Digest>, Error> {
    let at = |endpoint: &str, token: Digest| Digest::of(format!("{endpoint} {token}"));
    Ok(match kind {
        Kind::Hcloud => Some(hcloud::Access::from_env().map_err(Error::outside)?.digest(salt)),
        Kind::Proxmox => {
            let token = proxmox::Token::from_environment().map_err(Error::outside)?.digest(salt);
            providers.proxmox.as_ref().map(|settings| at(&settings.endpoint, token))
        }
        Kind::VmPool => {
            let token = PoolToken::from_env().map_err(Error::outside)?.map(|token| token.digest(salt));
            let settings = providers.vm_pool.as_ref().zip(token);
            settings.map(|(settings, token)| at(&settings.endpoint, token))
        }
        Kind::DockerLocal => {
            let engine = ["DOCKER_HOST", "DOCKER_CONTEXT"].map(|name| std::env::var(name).unwrap_or_default());
            Some(Digest::of(format!("{salt} {}", engine.join(" "))))
        }
        Kind::Local | Kind::Ssh => None,
    })
}

/// What a provider is given beside its own settings.
struct Given {
    /// A runner has so long from being asked for to being ready.
    boot: Duration,
    inside: DaemonOptions,
    connections: Arc<Connections>,
}

fn provider_of(
    kind: Kind,
    providers: &Providers,
    project: &Project,
    Given { boot, inside, connections }: Given,
) -> Result<Arc<dyn ComputeProvider>, Error> {
    let keys = project.keys();
    Ok(match kind {
        Kind::Local => Arc::new(Local::new(host_platform())),
        Kind::DockerLocal => Arc::new(Docker::new(providers.docker_local.clone(), inside)),
        Kind::Ssh => {
            if providers.ssh.hosts.is_empty() {
                return Err(missing("providers.ssh.hosts"));
            }
            Arc::new(Ssh::new(providers.ssh.clone(), data_folder().join("hosts")).asking(connections))
        }
        Kind::Hcloud => {
            let access = hcloud::Access::from_env().map_err(Error::outside)?;
            let concurrency = hcloud::Timeouts::with_boot(boot);
            let hcloud = hcloud::Hcloud::new(providers.hcloud.clone(), access, owner(), keys, concurrency);
            Arc::new(hcloud.map_err(Error::outside)?)
        }
        Kind::Proxmox => {
            let settings = providers.proxmox.clone().ok_or_else(|| missing("providers.proxmox"))?;
            let token = proxmox::Token::from_environment().map_err(Error::outside)?;
            Arc::new(proxmox::Proxmox::new(settings, token, owner(), keys, boot).map_err(Error::outside)?)
        }
        Kind::VmPool => {
            let settings = providers.vm_pool.clone().ok_or_else(|| missing("providers.vm_pool"))?;
            Arc::new(VmPool::from_env(settings, keys).map_err(Error::outside)?)
        }
    })
}

/// Provider and settings as JSON, without secrets; none where leases end with their process.
fn provider_record(settings: &Config) -> Result<Option<String>, Error> {
    let (compute_provider, providers) = (settings.workflow.compute_provider, settings.workflow.providers.clone());
    if matches!(compute_provider, Kind::Local | Kind::Ssh) {
        return Ok(None);
    }
    let salt = format!("{:016x}", std::hash::RandomState::new().build_hasher().finish());
    let account = account(compute_provider, &providers, &salt)?.map(|digest| Account { salt, digest });
    let provider_record = ProviderRecord { compute_provider, providers, account };
    Ok(Some(serde_json::to_string(&provider_record).expect("invariant: settings are JSON")))
}

/// Who rents, in eight hex digits: this user on this machine.
fn owner() -> String {
    let host = std::fs::read_to_string("/etc/machine-id").or_else(|_| std::fs::read_to_string("/etc/hostname"));
    let seed = format!("{} {}", host.unwrap_or_default().trim(), data_folder().display());
    Digest::of(seed).hex()[..8].to_owned()
}

fn missing(field: &str) -> Error {
    Error::from(UsageError::MissingSetting { field: field.to_owned() })
}
