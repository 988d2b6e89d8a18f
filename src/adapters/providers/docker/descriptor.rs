//! Descriptor of the provider `'docker_local`. Not responsible for: the containers.

use std::sync::Arc;
use std::time::Duration;

use super::DaemonOptions;
use super::provider::Docker;
use super::settings::DockerLocalSettings;
use crate::adapters::providers::descriptor::{
    Descriptor, Login, ProviderOptions, Reach, ReachKind, RunnerTraits, Settings, SettingsSchema, resolved,
};
use crate::domain::base::Digest;
use crate::domain::model::{Fault, ProviderName};
use crate::domain::ports::ComputeProvider;

/// Containers on this machine's Docker Engine.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: ProviderName::from_static("docker_local"),
    flag: "docker-local",
    summary: "A container on this machine's Docker Engine",
    runners: RunnerTraits {
        remote: false,
        leased: true,
        free_of_charge: true,
        outlive_process: true,
        fixed_hosts: false,
        stands_in: true,
        boot: Duration::ZERO,
    },
    login: Login::WHILE_BOOTING,
    settings: Some(SettingsSchema {
        summary: "Containers on this machine's Docker Engine.",
        contract: include_str!("../../../../schemas/providers/docker_local.ncl"),
        records: &[("docker_local", &["image", "sizes", "network"]), ("sizes", &["cpu", "memory_gb"])],
        resolve: |settings, _| resolved(settings, |_: &mut DockerLocalSettings| {}),
    }),
    size_aliases: &[],
    location_setting: None,
    credential: None,
    reach,
    account,
    build,
};

/// The image runs privileged, so one that a workflow names is as much as root here; the same goes for a network.
fn reach(settings: &Settings<'_>) -> Result<Vec<Reach>, Fault> {
    let settings: DockerLocalSettings = settings.read()?.unwrap_or_default();
    let own = DockerLocalSettings::default().image;
    let image = (settings.image != own).then_some((ReachKind::Image, settings.image));
    let network = settings.network.map(|network| (ReachKind::Network, network));
    Ok(image.into_iter().chain(network).map(|(kind, what)| Reach::of(kind, what)).collect())
}

/// The engine that the `docker` command talks to.
fn account(_: &Settings<'_>, salt: &str) -> Result<Option<Digest>, Fault> {
    let engine = ["DOCKER_HOST", "DOCKER_CONTEXT"].map(|name| std::env::var(name).unwrap_or_default());
    Ok(Some(Digest::of(format!("{salt} {}", engine.join(" ")))))
}

fn build(settings: &Settings<'_>, options: ProviderOptions) -> Result<Arc<dyn ComputeProvider>, Fault> {
    let settings: DockerLocalSettings = settings.read()?.unwrap_or_default();
    let daemon = DaemonOptions { http_registries: options.http_registries, ca_bundle: options.ca_bundle };
    Ok(Arc::new(Docker::new(settings, daemon)))
}
