//! Creates a run's provider with its settings and offers. Not responsible for: the provider's properties (see its
//! descriptor), connecting to runners (see `connector`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::host_probe::Connections;
use super::{prices, provider_options, provider_record};
use crate::adapters::providers::{Descriptor, ProviderOptions, Settings, registry};
use crate::app::config::Config;
use crate::app::images::{self, LayoutReason};
use crate::app::planning::forecast::Fleet;
use crate::app::trust::{self, Kind, Purpose};
use crate::app::{Error, ErrorKind, UsageError};
use crate::domain::base::{Platform, Platforms};
use crate::domain::model::{BuildSpec, ContextTransfer, Declared, Diagnostic, Offer, Size};
use crate::domain::ports::{ComputeProvider, Modes};
use crate::domain::sizing::{self, SizeAlias};
use crate::system::host_platform;

/// The source of a run's runners.
#[derive(Clone)]
pub struct ProviderContext {
    /// The provider's descriptor.
    pub descriptor: &'static Descriptor,
    /// Acquires and releases them.
    pub provider: Arc<dyn ComputeProvider>,
    /// Its offers.
    pub offers: Vec<Offer>,
    /// All providers' names for size tiers.
    pub aliases: Vec<SizeAlias>,
    /// Open connections to fixed hosts that were found free.
    pub connections: Arc<Connections>,
    /// The provider and its settings, to release a dead run's leases later. `None` if nothing can remain.
    pub provider_record: Option<String>,
}

impl ProviderContext {
    /// From the settings. Queries the provider's offers.
    pub async fn of(config: &Config) -> Result<Self, Error> {
        let (workflow, descriptor) = (&config.workflow, config.descriptor()?);
        let travels = config.context_transfer.value == ContextTransfer::Rsync;
        if descriptor.runners.remote
            && travels
            && let Some(reason) = images::layout_of(config)?
        {
            return Err(Error::from(needs_registry(reason)));
        }
        let connections = Arc::new(Connections::new(config.context_transfer.value));
        let provider = build(config, leasing_options(config, &connections))?;
        let offers = provider.offers().await.map_err(Error::outside)?;
        prices::check(&workflow.runners, descriptor.runners.free_of_charge, &offers)?;
        let provider_record = provider_record::written(descriptor, &workflow.providers)?;
        let aliases = registry().size_aliases();
        Ok(Self { descriptor, provider, offers, aliases, connections, provider_record })
    }

    /// The first size for a layer, then the larger ones to use after running out of memory. A runner that is not leased
    /// is what it is: it is named in place of the type that was asked for.
    pub fn sizes(
        &self,
        declared: &Declared,
        spec: Option<&BuildSpec>,
        platforms: &Platforms,
    ) -> Result<Vec<Size>, Error> {
        let size = sizing::wanted(spec, declared.layer.language.as_deref(), &self.offers, &self.aliases)?;
        if !self.descriptor.runners.leased {
            let here = self.offers.first().map(|offer| offer.runner_type.clone());
            return Ok(vec![Size { runner_type: here.unwrap_or(size.runner_type), ..size }]);
        }
        let platform = self.place_of(&size, platforms);
        Ok(sizing::ladder(&size, &self.offers, &platform)?)
    }

    /// The platform of the runner for these target platforms: that of the requested type if it is among them, else
    /// the first available.
    pub fn place_of(&self, size: &Size, platforms: &Platforms) -> Platform {
        let said = sizing::named(size, &self.offers).filter(|offer| platforms.include(&offer.platform));
        said.map_or_else(|| sizing::runner_platform(platforms, &self.offers), |offer| offer.platform.clone())
    }

    /// The runners that can be leased, for a forecast.
    pub fn fleet(&self) -> Fleet {
        let runners = &self.descriptor.runners;
        Fleet { boot: runners.boot, hosts: runners.fixed_hosts.then(|| self.offers.clone()) }
    }

    /// Whether runners are remote: they then push images to the registry directly, if there is one.
    pub fn is_remote(&self) -> bool {
        self.descriptor.runners.remote
    }

    /// The modes that a build's files have: git's where we copy them to the runner.
    pub fn modes(&self, config: &Config) -> Modes {
        let copied = self.is_remote() && config.workflow.runners.context_transfer == ContextTransfer::Rsync;
        if copied { Modes::Git } else { Modes::AsIs }
    }

    /// Whether runners are leased, not just this machine.
    pub fn is_leased(&self) -> bool {
        self.descriptor.runners.leased
    }

    /// Maximum lifetime of a lease; unlimited on this machine.
    pub fn lifetime(&self, config: &Config) -> Option<Duration> {
        self.is_leased().then(|| Duration::from_secs(config.workflow.runners.max_lifetime_min * 60))
    }

    /// The price of a started hour of each runner type, millionths of the currency's unit.
    pub fn prices(&self) -> BTreeMap<String, u64> {
        let price = |offer: &Offer| Some((offer.runner_type.clone(), offer.price.as_ref()?.hourly_micros));
        self.offers.iter().filter_map(price).collect()
    }

    /// The currency of the prices.
    pub fn currency(&self) -> String {
        let price = self.offers.iter().find_map(|offer| offer.price.as_ref());
        price.map_or_else(String::new, |price| price.currency.clone())
    }

    /// The default platform of layers that declare none.
    pub fn platform(&self) -> Platform {
        self.offers.first().map_or_else(host_platform, |offer| offer.platform.clone())
    }
}

/// The refusal of runners that push their images, where images go to a layout.
fn needs_registry(reason: LayoutReason) -> UsageError {
    let session = "buildctl runs here, images come back over the connection";
    match reason {
        LayoutReason::NoRegistry => UsageError::NeedsRegistry {
            why: "images go to an OCI layout here".to_owned(),
            help: format!(
                "set `runners.context_transfer = 'session` ({session}), or `registry_provider = 'registry` with \
                 `registry.address`; for one command: `--context-transfer session`, or for `dispatch` `--registry ADDRESS`"
            ),
        },
        LayoutReason::Named(by) => UsageError::NeedsRegistry {
            why: format!("{by} sends images to an OCI layout instead of the workflow's registry"),
            help: format!("go without {by}, or add `--context-transfer session` ({session})"),
        },
    }
}

/// The workflow's provider.
pub fn provider(config: &Config) -> Result<Arc<dyn ComputeProvider>, Error> {
    build(config, leasing_options(config, &Arc::default()))
}

/// The workflow's provider, for listing and releasing leases.
pub fn provider_for_leases(config: &Config) -> Result<Arc<dyn ComputeProvider>, Error> {
    build(config, ProviderOptions { leases: false, ..leasing_options(config, &Arc::default()) })
}

/// Warns of runners that can never be used as they are declared. Only fixed hosts are looked at: all other providers need
/// a service or its credentials, which `check` does without.
pub fn unusable_runners(config: &Config) -> Option<Diagnostic> {
    let fixed = config.descriptor().is_ok_and(|descriptor| descriptor.runners.fixed_hosts);
    // The keys of hosts that are not granted are not looked at.
    let leases = trust::wants(config, Purpose::Provider)
        .and_then(|wants| trust::is_missing(config, &wants, Kind::Host))
        .is_ok_and(|missing| !missing);
    let made = || made(config, ProviderOptions { leases, ..leasing_options(config, &Arc::default()) });
    let fault = fixed.then(made).and_then(Result::err)?;
    let (code, help) = match &fault.what {
        ErrorKind::Report(report) => {
            (report.code().map(|code| code.to_string()), report.help().map(|help| help.to_string()))
        }
        ErrorKind::Files(..) => (None, None),
    };
    let code = if code.as_deref() == Some("lian::remote::identity") {
        "lian::remote::identity"
    } else {
        "lian::cli::missing_setting"
    };
    let warning = Diagnostic::warning(code, fault.to_string());
    Some(match help {
        Some(help) => warning.help(help),
        None => warning,
    })
}

fn leasing_options(config: &Config, connections: &Arc<Connections>) -> ProviderOptions {
    ProviderOptions {
        leases: true,
        boot_timeout: Duration::from_secs(config.workflow.runners.boot_timeout_s),
        http_registries: images::http_registries(config),
        ca_bundle: config.ca_bundle.value.clone(),
        host_probe: Arc::clone(connections) as _,
        ..provider_options::to_give_back(&config.project)
    }
}

/// Nothing is sent to an address, or tried on a host, that the project names and the user does not know of.
fn build(config: &Config, options: ProviderOptions) -> Result<Arc<dyn ComputeProvider>, Error> {
    trust::demand(config, trust::wants(config, Purpose::Provider)?)?;
    made(config, options)
}

fn made(config: &Config, options: ProviderOptions) -> Result<Arc<dyn ComputeProvider>, Error> {
    let descriptor = config.descriptor()?;
    let own = Settings::new(&descriptor.name, config.workflow.providers.get(&descriptor.name));
    (descriptor.build)(&own, options).map_err(Error::outside)
}
