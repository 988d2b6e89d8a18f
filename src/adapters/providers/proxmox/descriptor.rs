//! Descriptor of the provider `'proxmox`. Not responsible for: the machines.

use std::sync::Arc;

use super::provider::Proxmox;
use super::settings::ProxmoxSettings;
use super::token::Token;
use crate::adapters::providers::descriptor::{
    Credential, Descriptor, Login, Peer, PeerVariables, ProviderOptions, Reach, ReachKind, Resolve, RunnerTraits,
    Settings, SettingsSchema, resolved,
};
use crate::domain::base::Digest;
use crate::domain::model::{Fault, ProviderName};
use crate::domain::ports::ComputeProvider;

/// Virtual machines of a Proxmox VE cluster.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: ProviderName::from_static("proxmox"),
    flag: "proxmox",
    summary: "Proxmox VE",
    runners: RunnerTraits::RENTED,
    login: Login::WHILE_BOOTING,
    settings: Some(SettingsSchema {
        summary: "Virtual machines of a Proxmox VE cluster; the token is in PROXMOX_TOKEN.",
        contract: include_str!("../../../../schemas/providers/proxmox.ncl"),
        records: &[(
            "proxmox",
            &["endpoint", "node", "template", "ids", "pool", "fingerprint", "ca", "full_clone", "platform"],
        )],
        resolve,
    }),
    size_aliases: &[],
    location_setting: None,
    credential: Some(Credential {
        variables: &[Token::VARIABLE, Token::FILE_VARIABLE],
        endpoint_variable: "PROXMOX_ENDPOINT",
        in_settings: true,
        peer_variables: Some(PeerVariables { fingerprint: "PROXMOX_FINGERPRINT", ca: "PROXMOX_CA" }),
    }),
    reach,
    account,
    build,
};

fn resolve(settings: &Settings<'_>, path: &Resolve<'_>) -> Result<serde_json::Value, Fault> {
    resolved(settings, |settings: &mut ProxmoxSettings| settings.ca = settings.ca.as_deref().map(path))
}

fn reach(settings: &Settings<'_>) -> Result<Vec<Reach>, Fault> {
    let settings: Option<ProxmoxSettings> = settings.read()?;
    let reach = |settings: ProxmoxSettings| {
        // What is pinned counts alone (see `tls`); what a CA's file holds is part of the terms wherever it is known.
        let ca = settings.ca.filter(|_| settings.fingerprint.is_none());
        let terms = format!("{:?} None", settings.fingerprint);
        let peer = settings.fingerprint.map(Peer::Fingerprint).or(ca.map(Peer::Ca));
        Reach { kind: ReachKind::Endpoint, what: settings.endpoint, terms, peer }
    };
    Ok(settings.map(reach).into_iter().collect())
}

fn account(settings: &Settings<'_>, salt: &str) -> Result<Option<Digest>, Fault> {
    let token = Token::from_environment()?.digest(salt);
    let settings: Option<ProxmoxSettings> = settings.read()?;
    Ok(settings.map(|settings| Digest::of(format!("{} {token}", settings.endpoint))))
}

fn build(settings: &Settings<'_>, options: ProviderOptions) -> Result<Arc<dyn ComputeProvider>, Fault> {
    let settings: ProxmoxSettings = settings.demand()?;
    let token = Token::from_environment()?;
    Ok(Arc::new(Proxmox::new(settings, token, options.owner, options.keys, options.boot_timeout)?))
}
