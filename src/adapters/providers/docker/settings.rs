//! The settings `providers.docker_local` (`schemas/providers/docker_local.ncl`). Not responsible for: what the engine
//! can hold.

use serde::{Deserialize, Serialize};

/// Settings of the local Docker Engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DockerLocalSettings {
    /// Image with buildkitd, buildctl and a shell.
    pub image: String,
    /// Available container sizes.
    pub sizes: Vec<DockerSize>,
    /// Network that containers join; Docker's default if unset.
    pub network: Option<String>,
}

/// A container size.
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
