//! The connector's options for a run. Not responsible for: connecting.

use std::path::PathBuf;
use std::time::Duration;

use crate::adapters::providers::{Login, ReachKind, Settings};
use crate::app::config::Config;
use crate::app::images;
use crate::domain::base::RunId;
use crate::domain::model::ContextTransfer;
use crate::domain::ports::Holder;
use crate::system::whoami;

/// How runners are connected to.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// How long a runner may take to become ready.
    pub boot_timeout: Duration,
    /// How runners authorize SSH logins, per provider.
    pub login: Login,
    /// How a context is transferred to a remote runner.
    pub context_transfer: ContextTransfer,
    /// Registries (`host[:port]`) for which this machine's own daemon uses plain HTTP.
    pub http_registries: Vec<String>,
    /// Whether the steps of builds on this machine use its network. The user granted that.
    pub host_network: bool,
    /// Contexts must be inside it.
    pub project_root: PathBuf,
    /// The run, for those who wait for its runners. Its lease is filled in later.
    pub holder: Holder,
    /// The folder for everything that lian-build keeps for this user.
    pub user: PathBuf,
}

impl ConnectOptions {
    /// From the configuration, for this run.
    pub fn of(config: &Config, login: Login, run: &RunId) -> Self {
        let runners = &config.workflow.runners;
        let workspace = config.project.root().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let holder = Holder { owner: whoami(), run: run.to_string(), workspace, lease: String::new() };
        Self {
            boot_timeout: Duration::from_secs(runners.boot_timeout_s),
            login,
            context_transfer: config.context_transfer.value,
            http_registries: images::http_registries(config),
            host_network: wants_host_network(config),
            project_root: config.project.root().to_owned(),
            holder,
            user: config.project.user().to_owned(),
        }
    }
}

/// Whether the project asks for this machine's network, for builds on this machine. Who comes here has granted it.
fn wants_host_network(config: &Config) -> bool {
    let Ok(descriptor) = config.descriptor() else { return false };
    let settings = Settings::new(&descriptor.name, config.workflow.providers.get(&descriptor.name));
    let reaches = (descriptor.reach)(&settings).unwrap_or_default();
    !descriptor.runners.leased && reaches.iter().any(|reach| reach.kind == ReachKind::Network)
}
