//! What `providers.docker_local` says (`schemas/providers/docker_local.ncl`). Not responsible for: what the engine has room for.

use serde::{Deserialize, Serialize};

/// A Docker Engine on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DockerLocalSettings {
    /// The image that holds buildkitd, buildctl and a shell.
    pub image: String,
    /// The sizes that containers come in.
    pub sizes: Vec<DockerSize>,
    /// The network that containers join; Docker's default where unset.
    pub network: Option<String>,
}

/// A size of containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerSize {
    /// Virtual CPUs.
    pub cpu: u32,
    /// Memory, GB.
    pub memory_gb: u32,
}

impl Default for DockerLocalSettings {
    fn default() -> Self {
        let sizes = [(2, 4), (4, 8), (8, 16), (16, 32)].map(|(cpu, memory_gb)| DockerSize { cpu, memory_gb });
        Self { image: "moby/buildkit:v0.32.2".to_owned(), sizes: sizes.to_vec(), network: None }
    }
}
