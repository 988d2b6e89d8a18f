//! Creates a machine from the template and waits until it accepts logins. Not responsible for: releasing it.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use reqwest::Method;
use serde_json::Value;
use tokio::time::Instant;

use super::api::Polls;
use super::api_error::ApiError;
use super::machines::{Identity, Machines};
use super::mark::{self, Mark, percent};
use super::record;
use super::settings::ProxmoxSettings;
use crate::domain::model::{Fault, FaultKind};
use crate::domain::ports::{LeaseRecord, Offer};
use crate::system::peer::SILENCE;
use crate::system::retry::Retry;

/// Written when cloud-init finishes. It is on tmpfs, so a file from an earlier boot cannot remain.
const BOOTED: &str = "/run/cloud-init/result.json";
/// Guest agent error if its configuration forbids reading files; permanent.
const FORBIDDEN: &str = "has been disabled";
const HOST_KEY: &str = "/etc/ssh/ssh_host_ed25519_key.pub";

/// Request for a machine.
#[derive(Debug)]
pub(super) struct MachineRequest<'w> {
    pub(super) mark: Mark,
    pub(super) offer: &'w Offer,
    /// The public key that may log in.
    pub(super) key: &'w str,
    /// What is known of the lease.
    pub(super) record: &'w LeaseRecord,
}

/// Request for a clone of the template.
struct CloneRequest<'w> {
    /// The id that the clone is to have.
    id: u32,
    mark: &'w Mark,
    record: &'w LeaseRecord,
    path: &'w str,
    fields: &'w [(&'static str, String)],
}

impl Machines {
    /// A running machine of this mark: reuses one from an earlier attempt, or creates one.
    pub(super) async fn running(
        &self,
        machine_request: &MachineRequest<'_>,
        settings: &ProxmoxSettings,
        until: Instant,
    ) -> Result<u32, ApiError> {
        let keys = percent(&format!("{}\n", machine_request.key.trim()));
        let lease = &machine_request.mark.lease;
        if let Some(id) = self.of(lease, until).await?.ours.first().copied()
            && let Some(config) = self.unlocked(id, lease, Identity::Marks, until).await?
        {
            record::learn(machine_request.record, id, &machine_request.mark).await;
            let running = self.is_running(id, until).await?;
            if running && config.keys.trim() == keys {
                return Ok(id);
            }
            if !running {
                self.start(id, machine_request, &keys, until).await?;
                return Ok(id);
            }
            // It booted with other keys, which only the first boot installs.
            self.destroy(id, lease, Identity::Marks, until).await?;
        }
        let id = self.clone_template(machine_request, settings, until).await?;
        self.start(id, machine_request, &keys, until).await?;
        Ok(id)
    }

    /// Clones the template to the first free id of the lease.
    async fn clone_template(
        &self,
        machine_request: &MachineRequest<'_>,
        settings: &ProxmoxSettings,
        until: Instant,
    ) -> Result<u32, ApiError> {
        let (mark, record) = (&machine_request.mark, machine_request.record);
        let path = Self::path(self.template, "/clone");
        for id in mark::ids(settings.ids, self.template, &mark.lease) {
            // The clone request sets the description, so a clone that was never configured is still recognised.
            let mut fields: Vec<(&'static str, String)> = vec![
                ("newid", id.to_string()),
                ("name", mark.name()),
                ("description", mark.text()),
                ("full", u8::from(settings.full_clone).to_string()),
            ];
            fields.extend(settings.pool.clone().map(|pool| ("pool", pool)));
            let clone = CloneRequest { id, mark, record, path: &path, fields: &fields };
            match self.api.worked(|| self.ask_for(&clone, until), until).await {
                Ok(()) => return self.marked_as_asked(id, mark, until).await,
                Err(trouble) if trouble.is_taken() => {
                    // Taken by an unrelated machine, or by ours if an earlier response was lost.
                    self.settle(until).await?;
                    if let Some(id) = self.of(&mark.lease, until).await?.ours.first() {
                        record::learn(record, *id, mark).await;
                        return Ok(*id);
                    }
                    record::was_not_made(record, id).await;
                }
                Err(trouble) => return Err(trouble),
            }
        }
        let message = format!("no machine id from {} to {} is free", settings.ids.0, settings.ids.1);
        let fault = Fault::new(FaultKind::Unavailable, "lian::proxmox::no_id", message)
            .help("widen `providers.proxmox.ids`, or delete leftover machines");
        Err(fault.into())
    }

    /// A clone that just ended, if it has our marks. One that lacks them is undone at once: nobody but this process
    /// would know whose it is.
    async fn marked_as_asked(&self, id: u32, mark: &Mark, until: Instant) -> Result<u32, ApiError> {
        // Without rights on it nothing can be said.
        let Some(config) = self.config(id, until).await? else { return Ok(id) };
        if config.lock.is_some() || self.is_ours(&config, &mark.lease, Identity::Marks, until).await? {
            return Ok(id);
        }
        self.destroy(id, &mark.lease, Identity::Made, until).await?;
        let message = format!(
            "the machine {id} was made without the name and description that were asked for, and was deleted again"
        );
        let fault = Fault::new(FaultKind::Unavailable, "lian::proxmox::unmarked", message)
            .help("see what changes machines on the node when they are cloned (hooks, a proxy): without them nobody finds what a run left");
        Err(fault.into())
    }

    /// Sends a create request for a lease. It completes, and the machine goes into the record, even if its caller is
    /// dropped; `release` waits for it.
    async fn ask_for(&self, clone: &CloneRequest<'_>, until: Instant) -> Result<Value, ApiError> {
        let CloneRequest { id, mark, record, path, fields } = *clone;
        let held = self.under_way(&mark.lease).lock_owned().await;
        let (api, path, fields) = (Arc::clone(&self.api), path.to_owned(), fields.to_vec());
        let (record, mark) = (record.clone(), mark.clone());
        let task = tokio::spawn(async move {
            let answer = api.once(&Method::POST, &path, &fields, Instant::now() + SILENCE).await;
            if answer.is_ok() {
                record::learn(&record, id, &mark).await;
            }
            drop(held);
            answer
        });
        let began = Instant::now();
        match tokio::time::timeout_at(until, task).await {
            Ok(heard) => heard.unwrap_or_else(|error| Err(ApiError::Unanswered(error.to_string()))),
            Err(_) => Err(ApiError::Late {
                waited: began.elapsed(),
                what: "the clone was requested, and no answer came".into(),
            }),
        }
    }

    async fn start(
        &self,
        id: u32,
        machine_request: &MachineRequest<'_>,
        keys: &str,
        until: Instant,
    ) -> Result<(), ApiError> {
        if self.unlocked(id, &machine_request.mark.lease, Identity::Marks, until).await?.is_none() {
            let message = format!("the machine {id} was deleted, or changed by others, before it was started");
            let fault = Fault::new(FaultKind::Infrastructure, "lian::proxmox::lost", message)
                .help("look at the node's task log for who did; keep `providers.proxmox.ids` for lian-build alone");
            return Err(fault.into());
        }
        let fields = [
            ("sockets", "1".to_owned()),
            ("cores", machine_request.offer.cpu.to_string()),
            ("memory", (u64::from(machine_request.offer.memory_gb) * 1024).to_string()),
            ("balloon", "0".to_owned()),
            ("ciuser", "root".to_owned()),
            ("sshkeys", keys.to_owned()),
            ("ipconfig0", "ip=dhcp".to_owned()),
            ("ciupgrade", "0".to_owned()),
            ("agent", "1".to_owned()),
            ("tags", mark::tags(&machine_request.mark.owner).join(";")),
            ("description", machine_request.mark.text()),
        ];
        self.api.work(Method::POST, &Self::path(id, "/config"), &fields, until).await?;
        match self.api.work(Method::POST, &Self::path(id, "/status/start"), &[], until).await {
            Err(trouble) if !trouble.is_running() => Err(trouble),
            _ => Ok(()),
        }
    }

    /// A machine's address and its sshd's public key, reported by its guest agent after the first boot.
    pub(super) async fn ready(&self, id: u32, until: Instant) -> Result<(IpAddr, String), ApiError> {
        self.told(id, "agent/file-read", Some(BOOTED), until, |file| Some(text(file).to_owned())).await?;
        let address = self.told(id, "agent/network-get-interfaces", None, until, address).await?;
        let key = self.told(id, "agent/file-read", Some(HOST_KEY), until, |file| host_key(text(file))).await?;
        Ok((address, key))
    }

    /// Polls the guest agent until it reports them.
    async fn told<T>(
        &self,
        id: u32,
        command: &str,
        file: Option<&str>,
        until: Instant,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<T, ApiError> {
        let path = Self::path(id, &format!("/{command}"));
        let fields: Vec<(&str, String)> = file.map(|file| ("file", file.to_owned())).into_iter().collect();
        let mut polls = Polls::until(until);
        loop {
            let said = match self.api.once(&Method::GET, &path, &fields, until).await {
                Ok(answer) => match read(&answer) {
                    Some(told) => return Ok(told),
                    None => "it does not report it yet".to_owned(),
                },
                Err(ApiError::Refused { status, message, .. }) if status >= 500 && !message.contains(FORBIDDEN) => {
                    message
                }
                Err(ApiError::Unanswered(text)) => text,
                Err(ApiError::Silent(Retry::Once)) => "no answer in time".to_owned(),
                Err(trouble) => return Err(trouble),
            };
            let asked = file.unwrap_or(command);
            polls.pause(|| format!("the guest agent of machine {id}, asked for {asked}: {said}")).await?;
        }
    }
}

fn text(file: &Value) -> &str {
    file["content"].as_str().unwrap_or("")
}

/// The first address that other machines can reach.
fn address(answer: &Value) -> Option<IpAddr> {
    let interfaces = answer["result"].as_array()?.iter().filter(|interface| interface["name"] != "lo");
    let addresses = interfaces.flat_map(|interface| interface["ip-addresses"].as_array().into_iter().flatten());
    let mut parsed = addresses.filter_map(|address| address["ip-address"].as_str()?.parse::<IpAddr>().ok());
    parsed.find(|address| {
        let local = match address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        !local && !address.is_loopback() && !address.is_unspecified() && !address.is_multicast()
    })
}

/// A public key without its comment.
fn host_key(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let (kind, key) = (words.next()?, words.next()?);
    let sound = kind == "ssh-ed25519" && base64::engine::general_purpose::STANDARD.decode(key).is_ok();
    sound.then(|| format!("{kind} {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_one_that_others_reach() {
        let answer = serde_json::json!({"result": [
            {"name": "lo", "ip-addresses": [{"ip-address": "127.0.0.1"}, {"ip-address": "::1"}]},
            {"name": "eth1"},
            {"name": "eth0", "ip-addresses": [
                {"ip-address": "fe80::1"}, {"ip-address": "169.254.3.4"}, {"ip-address": "2001:db8::7"},
                {"ip-address": "10.0.0.7"}]},
        ]});
        assert_eq!(address(&answer), "2001:db8::7".parse().ok());
        assert_eq!(address(&serde_json::json!({"result": [{"name": "lo"}]})), None);
        assert_eq!(address(&serde_json::json!({})), None);
    }

    #[test]
    fn a_host_key_is_whole_or_none() {
        assert_eq!(host_key("ssh-ed25519 AAAA root@here\n").as_deref(), Some("ssh-ed25519 AAAA"));
        for line in ["", "ssh-ed25519", "ssh-ed25519 A!", "ssh-rsa AAAA x"] {
            assert_eq!(host_key(line), None, "{line}");
        }
    }
}
