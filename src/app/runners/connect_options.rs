//! What the connector needs to know of a run. Not responsible for: connecting.

use std::path::PathBuf;
use std::time::Duration;

use crate::app::config::Config;
use crate::app::images;
use crate::domain::model::{ComputeProvider, ContextTransfer};

/// A fixed host that does not accept the key at once never will; this is for its sshd being just started.
const FIXED_HOST: Duration = Duration::from_secs(5);
/// A pool's machine may still be putting its keys in place.
const POOL_MACHINE: Duration = Duration::from_secs(30);
/// A pool of fixed hosts adds no key to them: then no new key pair is ever let in.
const POOL_HINT: &str = "where the pool's machines are fixed hosts, set LIAN_POOL_IDENTITY to a private key that they know; \
  else ask its operator";

/// How runners are connected to.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// How long a runner may take to become ready.
    pub boot_timeout: Duration,
    /// How long a refused login is tried again; as long as the runner may take to become ready where it is not said.
    pub login_patience: Option<Duration>,
    /// What helps where the login is refused for good.
    pub login_hint: Option<String>,
    /// How a context comes to a runner elsewhere.
    pub context_transfer: ContextTransfer,
    /// Registries (`host[:port]`) that this machine's own daemon speaks to without TLS.
    pub http_registries: Vec<String>,
    /// Contexts lie inside it.
    pub project_root: PathBuf,
}

impl ConnectOptions {
    /// As the settings say.
    pub fn of(settings: &Config) -> Self {
        let runners = &settings.workflow.runners;
        let (login_patience, login_hint) = match settings.workflow.compute_provider {
            ComputeProvider::Ssh => (Some(FIXED_HOST), None),
            ComputeProvider::VmPool => (Some(POOL_MACHINE), Some(POOL_HINT.to_owned())),
            _ => (None, None),
        };
        Self {
            boot_timeout: Duration::from_secs(runners.boot_timeout_s),
            login_patience,
            login_hint,
            context_transfer: runners.context_transfer,
            http_registries: images::http_registries(settings),
            project_root: settings.project.root().to_owned(),
        }
    }
}
