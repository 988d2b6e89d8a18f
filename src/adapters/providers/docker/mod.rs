//! Leases containers on a Docker Engine, one per lease, each with its own BuildKit daemon. Not responsible for:
//! containers without our labels (never touched), and installing the engine.

mod container;
mod descriptor;
mod engine;
mod offers;
mod provider;
mod settings;

pub use container::DaemonOptions;
pub use descriptor::DESCRIPTOR;
pub use provider::Docker;
pub use settings::DockerLocalSettings;
