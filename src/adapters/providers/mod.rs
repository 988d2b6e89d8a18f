//! Providers, which supply runners: one folder per provider, with its descriptor. Not responsible for: what is done
//! on runners.
//!
//! To add a provider: create its folder with a `DESCRIPTOR`, its line in [`builtin`], and its contract in
//! `schemas/providers/`. No other code refers to it.

mod descriptor;
mod docker;
pub mod hcloud;
mod host_probe;
mod keys;
mod local;
pub mod proxmox;
mod registry;
pub mod ssh;
pub mod vm_pool;

use std::sync::OnceLock;

pub use descriptor::{
    Credential, Descriptor, Login, Peer, ProviderOptions, Reach, ReachKind, Resolve, RunnerTraits, Settings,
    SettingsSchema, missing_setting, no_reach, resolved,
};
pub use docker::{DaemonOptions, Docker, DockerLocalSettings};
pub use host_probe::{Availability, HostProbe};
pub use local::{Local, machine};
pub use registry::ProviderRegistry;

/// The built-in providers, in listing order.
pub fn builtin() -> ProviderRegistry {
    ProviderRegistry::new([
        local::DESCRIPTOR,
        docker::DESCRIPTOR,
        ssh::DESCRIPTOR,
        hcloud::DESCRIPTOR,
        proxmox::DESCRIPTOR,
        vm_pool::DESCRIPTOR,
    ])
}

static OF_PROGRAM: OnceLock<ProviderRegistry> = OnceLock::new();

/// Sets this program's providers; call it before any lookup. Only the first call counts.
pub fn install(registry: ProviderRegistry) {
    let _ = OF_PROGRAM.set(registry);
}

/// This program's providers; the built-in ones by default.
pub fn registry() -> &'static ProviderRegistry {
    OF_PROGRAM.get_or_init(builtin)
}
