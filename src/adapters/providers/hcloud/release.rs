//! Releases leases: servers first, by the ids of the record, then by name, then by labels. Not responsible for: objects
//! that are neither in the record nor marked as the lease's (never deleted).

use std::fmt::Display;

use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use super::creation::{PRIMARY_IP, Requests, SERVER, SSH_KEY};
use super::error::ApiError;
use super::model::{Labels, PrimaryIp, Server, SshKey};
use super::{Hcloud, names};
use crate::adapters::providers::keys;
use crate::domain::base::LeaseId;
use crate::domain::model::{Fault, FaultKind};
use crate::domain::ports::{Gone, LeaseRecord};
use crate::system::RemoteClock;

/// The kinds of what a lease has and where they are, the most costly first.
const KINDS: [(&str, &str); 3] = [(SERVER, "servers"), (PRIMARY_IP, "primary_ips"), (SSH_KEY, "ssh_keys")];

/// A release under way: what it did, and what went wrong, the most costly first.
struct Release<'a> {
    lease: &'a LeaseId,
    record: &'a LeaseRecord,
    /// The lease as a label.
    label: String,
    deleted: bool,
    faults: Vec<Fault>,
}

/// What the lists show of a lease, or why they cannot be read.
struct Listed {
    servers: Result<Vec<Server>, ApiError>,
    keys: Result<Vec<SshKey>, ApiError>,
    ips: Result<Vec<PrimaryIp>, ApiError>,
}

impl Listed {
    /// Whether something of an owner's lease has not expired.
    fn is_living(&self, owner: &str, lease: &str, clock: &RemoteClock) -> bool {
        let mut all = self.labels().filter(|labels| names::are_of(labels, owner, lease));
        all.any(|labels| names::expires(labels).is_none_or(|at| !clock.is_past(at)))
    }

    fn labels(&self) -> impl Iterator<Item = &Labels> {
        let servers = self.servers.iter().flatten().map(|server| &server.labels);
        let keys = self.keys.iter().flatten().map(|key| &key.labels);
        servers.chain(keys).chain(self.ips.iter().flatten().map(|ip| &ip.labels))
    }
}

impl Release<'_> {
    /// Whether the record has something of every kind: all create requests were answered, and lists could tell nothing
    /// new.
    fn is_known(&self) -> bool {
        KINDS.iter().all(|(kind, _)| !self.record.of(kind).is_empty())
    }

    /// Whether the record has this.
    fn has(&self, kind: &str, id: u64) -> bool {
        self.record.of(kind).iter().any(|known| known.id == id.to_string())
    }

    /// Takes the failure of a list. Where the record has the lease's only server, or this kind, it could tell nothing
    /// new.
    fn unlisted(&mut self, kind: &str, error: ApiError) {
        if self.record.of(SERVER).is_empty() && self.record.of(kind).is_empty() {
            self.faults.push(refused(error));
        } else {
            tracing::debug!("the {kind}s of {} cannot be listed, and need not be: {error}", self.lease);
        }
    }

    /// Takes the result of one deletion; a failure does not keep the others from being tried.
    fn take(&mut self, deleted: Result<bool, Fault>) {
        match deleted {
            Ok(deleted) => self.deleted |= deleted,
            Err(fault) => self.faults.push(fault),
        }
    }
}

impl Hcloud {
    pub(super) async fn give_back(&self, lease: &LeaseId, record: &LeaseRecord) -> Result<Gone, Fault> {
        // Wait for pending create requests: they could otherwise create a server after the release, and what they
        // answer belongs in the record.
        let requests = self.creations.of(lease);
        let requests = self.settled("hear what was asked for", async { Ok(requests.lock_owned().await) }).await;
        let label = names::value(lease.as_str());
        let mut release = Release { lease, record, label, deleted: false, faults: Vec::new() };
        for (kind, path) in KINDS {
            let known = self.settled("take a server back", self.known(&mut release, kind, path)).await;
            release.faults.extend(known.err());
        }
        match &requests {
            Ok(requests) => {
                let rest = self.settled("take a server back", self.unknown(&mut release, requests)).await;
                release.faults.extend(rest.err());
            }
            Err(fault) => release.faults.push(fault.clone()),
        }
        if let Some(fault) = release.faults.into_iter().next() {
            return Err(fault);
        }
        drop(requests);
        self.creations.forget(lease);
        keys::forget(&self.keys, &names::value(lease.as_str()))?;
        Ok(if release.deleted { Gone::Deleted } else { Gone::Absent })
    }

    /// Deletes what the record has of one kind. Nothing is listed first.
    async fn known(&self, release: &mut Release<'_>, kind: &str, path: &str) -> Result<(), Fault> {
        for resource in release.record.of(kind) {
            let deleted = if kind == SERVER {
                self.delete_server(&resource.id, resource.name.as_deref(), release.lease).await
            } else {
                self.api.delete(&format!("/{path}/{}", resource.id)).await.map_err(refused)
            };
            release.take(deleted);
        }
        Ok(())
    }

    /// Deletes what the record does not have: what was created without an answer, or is left of a lease of others.
    async fn unknown(&self, release: &mut Release<'_>, requests: &Requests) -> Result<(), Fault> {
        if requests.unanswered.is_none() && release.is_known() {
            return Ok(());
        }
        let mut listed = self.listed(release).await;
        while self.may_yet_be_listed(&listed, release, requests) {
            self.api.polls().poll().await;
            listed = self.listed(release).await;
        }
        let owner = self.owner_in(&listed, &release.label);
        if owner != self.owner && listed.is_living(&owner, &release.label, self.api.clock()) {
            // With a record it is a lease of ours, and what is listed is none of it.
            let is_ours = !release.record.known().is_empty();
            return if is_ours { Ok(()) } else { Err(elsewhere(&owner, release.lease)) };
        }
        self.listed_servers(release, listed.servers, &owner).await;
        let name = names::server(&owner, &release.label);
        let is_ours = |labels: &Labels| names::are_of(labels, &owner, &release.label);
        let ours = |key: &&SshKey| is_ours(&key.labels) || is_bare(&key.name, &key.labels, &name);
        let keys = listed.keys.map(|keys| keys.iter().filter(ours).map(|key| key.id).collect());
        let ips = listed.ips.map(|ips| ips.iter().filter(|ip| is_ours(&ip.labels)).map(|ip| ip.id).collect());
        self.listed_rest(release, (PRIMARY_IP, "primary_ips"), ips).await;
        self.listed_rest(release, (SSH_KEY, "ssh_keys"), keys).await;
        Ok(())
    }

    async fn listed_servers(&self, release: &mut Release<'_>, listed: Result<Vec<Server>, ApiError>, owner: &str) {
        let servers = match listed {
            Ok(servers) => servers,
            Err(error) => return release.unlisted(SERVER, error),
        };
        let name = names::server(owner, &release.label);
        for server in servers {
            let is_bare = is_bare(&server.name, &server.labels, &name);
            let is_ours = is_bare || names::are_of(&server.labels, owner, &release.label);
            if !is_ours || release.has(SERVER, server.id) {
                continue;
            }
            let deleted = self.delete_server(server.id, Some(&name), release.lease).await;
            release.take(deleted);
        }
    }

    async fn listed_rest(
        &self,
        release: &mut Release<'_>,
        (kind, path): (&str, &str),
        listed: Result<Vec<u64>, ApiError>,
    ) {
        let ids = match listed {
            Ok(ids) => ids,
            Err(error) => return release.unlisted(kind, error),
        };
        for id in ids {
            if release.has(kind, id) {
                continue;
            }
            let deleted = self.api.delete(&format!("/{path}/{id}")).await.map_err(refused);
            release.take(deleted);
        }
    }

    /// Deletes a server and waits until it is gone; false if it was gone already. One that has another name by now was
    /// given to somebody: it stays, and that is told.
    async fn delete_server(&self, id: impl Display, name: Option<&str>, lease: &LeaseId) -> Result<bool, Fault> {
        let path = format!("/servers/{id}");
        match self.api.once(Method::GET, &path, &[], None).await {
            Ok(answer) => {
                let called = answer["server"]["name"].as_str();
                if let (Some(name), Some(called)) = (name, called.filter(|called| Some(*called) != name)) {
                    tracing::debug!("server {id} was made as {name}");
                    return Err(renamed(&id, called, lease));
                }
            }
            Err(error) if error.is_not_found() => return Ok(false),
            // Whatever keeps it from being looked at must not keep it alive.
            Err(_) => {}
        }
        let deleted = self.api.delete(&path).await.map_err(refused)?;
        let mut polls = self.api.polls();
        while self.api.find::<Value>(&path, SERVER).await.map_err(refused)?.is_some() {
            polls.poll().await;
        }
        Ok(deleted)
    }

    /// Whether a create request was sent whose result is not known, and lists have not had the time to show it.
    fn may_yet_be_listed(&self, listed: &Listed, release: &Release<'_>, requests: &Requests) -> bool {
        let since = requests.unanswered.filter(|_| release.record.of(SERVER).is_empty());
        let waiting = since.is_some_and(|since| since + self.api.pace().lag > Instant::now());
        waiting && listed.servers.as_ref().is_ok_and(Vec::is_empty)
    }

    /// What lists show of the lease, by its name and by its labels. They are filtered again where they are used: a
    /// proxy or a wrong query must not lead to deleting a foreign server.
    async fn listed(&self, release: &Release<'_>) -> Listed {
        let selector = format!("{}==1,{}=={}", names::MARK, names::LEASE, release.label);
        let name = names::server(&self.owner, &release.label);
        let (by_labels, by_name) = ([("label_selector", selector.as_str())], [("name", name.as_str())]);
        // What the record has needs no look by name: names are unique.
        let by_name_of = |kind: &str| Some(&by_name[..]).filter(|_| release.record.of(kind).is_empty());
        let (servers, keys, ips) = tokio::join!(
            self.both::<Server>("servers", &by_labels, by_name_of(SERVER)),
            self.both::<SshKey>("ssh_keys", &by_labels, by_name_of(SSH_KEY)),
            self.primary_ips(&by_labels),
        );
        let servers = servers.map(|mut servers| {
            servers
                .retain(|server| bears(&server.labels, &release.label) || is_bare(&server.name, &server.labels, &name));
            servers.sort_unstable_by_key(|server| server.id);
            servers.dedup_by_key(|server| server.id);
            servers
        });
        Listed { servers, keys, ips }
    }

    /// The objects of one kind by their labels, and by their name.
    async fn both<T: DeserializeOwned>(
        &self,
        kind: &str,
        by_labels: &[(&str, &str)],
        by_name: Option<&[(&str, &str)]>,
    ) -> Result<Vec<T>, ApiError> {
        let mut all = self.api.list(kind, by_labels).await?;
        if let Some(by_name) = by_name {
            all.extend(self.api.list(kind, by_name).await?);
        }
        Ok(all)
    }

    /// The lease's owner: us if we have a lease of this id, otherwise the owner in the labels.
    fn owner_in(&self, listed: &Listed, lease: &str) -> String {
        let owners: Vec<&String> = listed
            .labels()
            .filter(|labels| bears(labels, lease))
            .filter_map(|labels| labels.get(names::OWNER))
            .collect();
        let ours = owners.iter().any(|owner| **owner == self.owner);
        owners.first().filter(|_| !ours).map_or_else(|| self.owner.clone(), |owner| (*owner).clone())
    }
}

/// Whether an object has a lease's own name, and none of our labels says whose it is: they were dropped.
fn is_bare(called: &str, labels: &Labels, name: &str) -> bool {
    called == name && !labels.keys().any(|key| names::is_ours(key))
}

fn bears(labels: &Labels, lease: &str) -> bool {
    labels.get(names::MARK).is_some_and(|mark| mark == "1") && labels.get(names::LEASE).is_some_and(|of| of == lease)
}

fn refused(error: ApiError) -> Fault {
    error.into_fault("give a server back")
}

fn elsewhere(owner: &str, lease: &LeaseId) -> Fault {
    let message = format!("the server of lease {lease} is `{owner}`'s, and has not expired");
    Fault::new(FaultKind::Unavailable, "lian::hcloud::owner", message).help(
        "give it back from there, or delete it in the Hetzner console; from here it can be given back once it has expired",
    )
}

fn renamed(id: &dyn Display, name: &str, lease: &LeaseId) -> Fault {
    let message = format!("server {id} was made for lease {lease}, but is called {name} by now");
    Fault::new(FaultKind::Infrastructure, "lian::hcloud::renamed", message).help(format!(
        "it is billed: delete it in the Hetzner console, or, if it is to stay, remove its label `lian` and type \
         `lian-build leases gc --forget {lease}`",
    ))
}
