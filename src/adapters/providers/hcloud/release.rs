//! Releases leases and lists those still to be released. Not responsible for: objects without a lease's labels (never
//! deleted).

use std::collections::BTreeMap;
use std::sync::PoisonError;

use super::error::ApiError;
use super::model::{Labels, PrimaryIp, Server, SshKey};
use super::{Hcloud, names};
use crate::adapters::providers::keys;
use crate::domain::base::{LeaseId, RunId, Timestamp};
use crate::domain::model::{Fault, FaultKind};
use crate::domain::ports::OwnedLease;
use crate::system::now;

/// All our objects in a project.
struct Holdings {
    servers: Vec<Server>,
    keys: Vec<SshKey>,
    ips: Vec<PrimaryIp>,
}

impl Holdings {
    fn labels(&self) -> impl Iterator<Item = &Labels> {
        let servers = self.servers.iter().map(|server| &server.labels);
        servers.chain(self.keys.iter().map(|key| &key.labels)).chain(self.ips.iter().map(|ip| &ip.labels))
    }

    /// Filters again what the API returned: a proxy or a wrong query must not lead to deleting a foreign server.
    fn retain(&mut self, fits: impl Fn(&Labels) -> bool) {
        self.servers.retain(|server| fits(&server.labels));
        self.keys.retain(|key| fits(&key.labels));
        self.ips.retain(|ip| fits(&ip.labels));
    }
}

impl Hcloud {
    pub(super) async fn give_back(&self, lease: &LeaseId) -> Result<(), Fault> {
        // Wait for pending create requests: they could otherwise create a server after the release.
        let settled = self.under_way(lease);
        let settled = settled.lock().await;
        let refused = |error: ApiError| error.into_fault("give a server back");
        let label = names::value(lease.as_str());
        let selector = format!("{}==1,{}=={label}", names::MARK, names::LEASE);
        let mut held = self.holdings(&selector).await.map_err(refused)?;
        let owner = self.owner_of(&held, &label);
        held.retain(|labels| names::are_of(labels, &owner, &label));
        if owner != self.owner && held.labels().any(|labels| names::expires(labels).is_none_or(|at| at > now())) {
            return Err(elsewhere(&owner, lease));
        }
        let name = names::server(&owner, &label);
        if let Some(other) = held.servers.iter().find(|server| server.name != name) {
            return Err(renamed(other, lease));
        }
        for server in &held.servers {
            let path = format!("/servers/{}", server.id);
            self.api.delete(&path).await.map_err(refused)?;
            let mut polls = self.api.polls();
            while self.api.find::<Server>(&path, "server").await.map_err(refused)?.is_some() {
                polls.poll().await;
            }
        }
        for key in &held.keys {
            self.api.delete(&format!("/ssh_keys/{}", key.id)).await.map_err(refused)?;
        }
        // Most are deleted with their server.
        for ip in &held.ips {
            self.api.delete(&format!("/primary_ips/{}", ip.id)).await.map_err(refused)?;
        }
        drop(settled);
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(lease);
        keys::forget(&self.lease_keys(lease))
    }

    /// The lease's owner: us if we have a lease of this id, otherwise the owner in the labels.
    fn owner_of(&self, held: &Holdings, lease: &str) -> String {
        let owners = || {
            let ours = held.labels().filter(|labels| labels.get(names::LEASE).is_some_and(|value| value == lease));
            ours.filter_map(|labels| labels.get(names::OWNER))
        };
        if owners().any(|owner| *owner == self.owner) {
            return self.owner.clone();
        }
        owners().next().cloned().unwrap_or_else(|| self.owner.clone())
    }

    async fn holdings(&self, selector: &str) -> Result<Holdings, ApiError> {
        let query = [("label_selector", selector)];
        let servers = self.api.list("servers", &query).await?;
        let keys = self.api.list("ssh_keys", &query).await?;
        let ips = self.api.list("primary_ips", &query).await?;
        Ok(Holdings { servers, keys, ips })
    }

    pub(super) async fn list_owned(&self) -> Result<Vec<OwnedLease>, Fault> {
        let mut held = self
            .holdings(&format!("{}==1", names::MARK))
            .await
            .map_err(|error| error.into_fault("list what is rented"))?;
        held.retain(|labels| labels.get(names::MARK).is_some_and(|mark| mark == "1"));
        let mut all: BTreeMap<(String, String), OwnedLease> = BTreeMap::new();
        for server in &held.servers {
            let what = format!("server {}, {} in {}", server.id, server.server_type.name, server.place());
            self.add(&mut all, &server.labels, &what, server.created.as_deref());
        }
        let with_server: Vec<(String, String)> = all.keys().cloned().collect();
        let keys = held.keys.iter().map(|key| (&key.labels, format!("SSH key {}", key.id), &key.created));
        let ips = held.ips.iter().map(|ip| (&ip.labels, format!("primary IP {}", ip.id), &ip.created));
        for (labels, what, created) in keys.chain(ips) {
            if mark(labels).is_some_and(|mark| !with_server.contains(&mark)) {
                self.add(&mut all, labels, &what, created.as_deref());
            }
        }
        Ok(all.into_values().collect())
    }

    fn add(
        &self,
        all: &mut BTreeMap<(String, String), OwnedLease>,
        labels: &Labels,
        what: &str,
        created: Option<&str>,
    ) {
        // Without our labels it was created manually and is not ours to release.
        let Some((owner, lease)) = mark(labels) else { return };
        let whose = if owner == self.owner { String::new() } else { format!(", of {owner}") };
        let fresh = || OwnedLease {
            lease: LeaseId::new(lease.clone()),
            run: labels.get(names::RUN).map(|run| RunId::new(run.clone())),
            what: String::new(),
            created: created.and_then(instant),
            expires: names::expires(labels),
        };
        let entry = all.entry((owner, lease.clone())).or_insert_with(fresh);
        let comma = if entry.what.is_empty() { "" } else { ", " };
        entry.what = format!("{}{comma}{what}{whose}", entry.what);
    }
}

/// Owner and lease in the labels.
fn mark(labels: &Labels) -> Option<(String, String)> {
    Some((labels.get(names::OWNER)?.clone(), labels.get(names::LEASE)?.clone()))
}

fn instant(text: &str) -> Option<Timestamp> {
    let parsed: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(parsed.as_millisecond()).ok().map(Timestamp)
}

fn elsewhere(owner: &str, lease: &LeaseId) -> Fault {
    let message = format!("the server of lease {lease} is `{owner}`'s, and has not expired");
    Fault::new(FaultKind::Unavailable, "lian::hcloud::owner", message).help(
        "give it back from there, or delete it in the Hetzner console; from here it can be given back once it has expired",
    )
}

fn renamed(server: &Server, lease: &LeaseId) -> Fault {
    let message = format!("server {} is lease {lease}'s by its labels, but is called {}", server.id, server.name);
    Fault::new(FaultKind::Infrastructure, "lian::hcloud::renamed", message)
        .help("it is billed: delete it in the Hetzner console, or, if it is to stay, remove its label `lian`")
}
