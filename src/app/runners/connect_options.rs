//! What the connector needs to know of a run. Not responsible for: connecting.

use std::path::PathBuf;
use std::time::Duration;

use crate::adapters::providers::Login;
use crate::app::config::Config;
use crate::app::images;
use crate::domain::model::ContextTransfer;

/// How runners are connected to.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// How long a runner may take to become ready.
    pub boot_timeout: Duration,
    /// How runners let us in over SSH, as their provider says.
    pub login: Login,
    /// How a context comes to a runner elsewhere.
    pub context_transfer: ContextTransfer,
    /// Registries (`host[:port]`) that this machine's own daemon speaks to without TLS.
    pub http_registries: Vec<String>,
    /// Contexts lie inside it.
    pub project_root: PathBuf,
}

impl ConnectOptions {
    /// As the configuration says.
    pub fn of(config: &Config, login: Login) -> Self {
        let runners = &config.workflow.runners;
        Self {
            boot_timeout: Duration::from_secs(runners.boot_timeout_s),
            login,
            context_transfer: runners.context_transfer,
            http_registries: images::http_registries(config),
            project_root: config.project.root().to_owned(),
        }
    }
}
