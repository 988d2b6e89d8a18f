//! Containers on a Docker Engine, one a lease, each with a BuildKit daemon in it. Not responsible for: touching a container without our
//! labels, and installing the engine.

mod container;
mod descriptor;
mod engine;
mod offers;
mod provider;
mod settings;

use std::path::PathBuf;
use std::time::Duration;

pub use container::Container;
pub use descriptor::DESCRIPTOR;
pub use provider::Docker;
pub use settings::DockerLocalSettings;

/// What a container is given beside its size.
#[derive(Debug, Clone, Default)]
pub struct DaemonOptions {
    /// Registries (`host[:port]`) that its daemon speaks to without TLS.
    pub http_registries: Vec<String>,
    /// CA certificates (PEM) that its daemon trusts beside none other.
    pub ca_bundle: Option<PathBuf>,
}

/// Most calls are answered at once; an engine that hangs is not waited for longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// An image of some 100 MB, over a slow line.
const PULL: Duration = Duration::from_secs(900);
