//! Containers on a Docker Engine, one a lease, each with a BuildKit daemon in it. Not responsible for: touching a container without our
//! labels, and installing the engine.

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
