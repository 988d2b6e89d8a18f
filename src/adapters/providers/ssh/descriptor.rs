//! Descriptor of the provider `'ssh`. Not responsible for: locking hosts.

use std::sync::Arc;
use std::time::Duration;

use super::hosts::Ssh;
use super::settings::{SshHost, SshSettings};
use crate::adapters::providers::descriptor::{
    Descriptor, Login, ProviderOptions, Reach, ReachKind, Resolve, RunnerTraits, Settings, SettingsSchema,
    missing_setting, resolved,
};
use crate::domain::model::{Fault, ProviderName};
use crate::domain::ports::ComputeProvider;

/// A fixed list of hosts. A lease is a lock that ends with its process, so nothing needs releasing afterwards.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: ProviderName::from_static("ssh"),
    flag: "ssh",
    summary: "A fixed host",
    runners: RunnerTraits {
        remote: true,
        leased: true,
        free_of_charge: true,
        outlive_process: false,
        fixed_hosts: true,
        stands_in: false,
        boot: Duration::ZERO,
    },
    // A rejected key stays rejected; the short retry only covers an sshd that has just started.
    login: Login { patience: Some(Duration::from_secs(5)), hint: None },
    settings: Some(SettingsSchema {
        summary: "A fixed list of hosts with sshd, rsync, buildkitd and buildctl.",
        contract: include_str!("../../../../schemas/providers/ssh.ncl"),
        records: &[
            ("ssh", &["hosts"]),
            ("hosts", &["address", "port", "user", "host_key", "identity", "cpu", "memory_gb", "platform"]),
        ],
        resolve,
    }),
    size_aliases: &[],
    location_setting: None,
    credential: None,
    reach,
    account: |_, _| Ok(None),
    build,
};

fn resolve(settings: &Settings<'_>, path: &Resolve<'_>) -> Result<serde_json::Value, Fault> {
    resolved(settings, |settings: &mut SshSettings| {
        for identity in settings.hosts.iter_mut().filter_map(|host| host.identity.as_mut()) {
            *identity = path(identity);
        }
    })
}

/// Each host, with the key that logs in there and the key that it must have.
fn reach(settings: &Settings<'_>) -> Result<Vec<Reach>, Fault> {
    let settings: SshSettings = settings.read()?.unwrap_or_default();
    let host = |host: SshHost| {
        let by = host.identity.map_or_else(|| "the agent's keys".to_owned(), |file| resolved_path(&file));
        Reach {
            kind: ReachKind::Host,
            what: format!("{}@{}:{} with {by}", host.user, host.address, host.port),
            terms: host.host_key,
            peer: None,
        }
    };
    Ok(settings.hosts.into_iter().map(host).collect())
}

/// A link may lead to another key tomorrow.
fn resolved_path(file: &std::path::Path) -> String {
    crate::system::resolved(file).display().to_string()
}

fn build(settings: &Settings<'_>, options: ProviderOptions) -> Result<Arc<dyn ComputeProvider>, Fault> {
    let settings: SshSettings = settings.read()?.unwrap_or_default();
    if settings.hosts.is_empty() {
        return Err(missing_setting("providers.ssh.hosts"));
    }
    // What only lists or gives back needs no key.
    if options.leases {
        settings.check_identities()?;
    }
    let ssh = Ssh::new(settings, options.data.join("hosts"));
    Ok(Arc::new(ssh.asking(options.host_probe).waiting(options.boot_timeout)))
}
