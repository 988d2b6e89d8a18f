//! Lists the leases of a project, of all owners. Not responsible for: releasing them.

use std::collections::{BTreeMap, BTreeSet};

use super::error::ApiError;
use super::model::{Labels, PrimaryIp, Server, SshKey};
use super::{Hcloud, names};
use crate::domain::base::{LeaseId, RunId, Timestamp};
use crate::domain::ports::{OwnedLease, OwnedLeases};
use crate::system::RemoteTime;

/// Leases by owner and id.
type Marked = BTreeMap<(String, String), OwnedLease>;

impl Hcloud {
    /// The leases with our mark. A kind of object that cannot be listed hides none of another kind.
    pub(super) async fn list_owned(&self) -> OwnedLeases {
        let selector = format!("{}==1", names::MARK);
        let query = [("label_selector", selector.as_str())];
        let (servers, keys, ips) = tokio::join!(
            self.api.list::<Server>("servers", &query),
            self.api.list::<SshKey>("ssh_keys", &query),
            self.primary_ips(&query),
        );
        let mut owned = OwnedLeases::default();
        let mut all = Marked::new();
        for server in seen(servers, &mut owned) {
            let what = format!("server {}, {} in {}", server.id, server.server_type.name, server.place());
            self.add(&mut all, &server.labels, &what, server.created.as_deref());
        }
        let with_server: BTreeSet<(String, String)> = all.keys().cloned().collect();
        let keys =
            seen(keys, &mut owned).into_iter().map(|key| (key.labels, format!("SSH key {}", key.id), key.created));
        let ips: Vec<PrimaryIp> = seen(ips, &mut owned);
        let ips = ips.into_iter().map(|ip| (ip.labels, format!("primary IP {}", ip.id), ip.created));
        for (labels, what, created) in keys.chain(ips) {
            if mark(&labels).is_some_and(|mark| !with_server.contains(&mark)) {
                self.add(&mut all, &labels, &what, created.as_deref());
            }
        }
        owned.leases = all.into_values().collect();
        owned
    }

    /// The addresses that match a query. An API without them has none.
    pub(super) async fn primary_ips(&self, query: &[(&str, &str)]) -> Result<Vec<PrimaryIp>, ApiError> {
        match self.api.list("primary_ips", query).await {
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            listed => listed,
        }
    }

    fn add(&self, all: &mut Marked, labels: &Labels, what: &str, created: Option<&str>) {
        // Without our labels it was created manually and is not ours to release.
        let Some((owner, lease)) = mark(labels) else { return };
        let whose = if owner == self.owner { String::new() } else { format!(", of {owner}") };
        let fresh = || OwnedLease {
            lease: LeaseId::new(lease.clone()),
            run: labels.get(names::RUN).map(|run| RunId::new(run.clone())),
            what: String::new(),
            created: created.and_then(instant).map(|at| self.api.clock().here(at)),
            expires: names::expires(labels).map(|at| self.api.clock().here(at)),
        };
        let entry = all.entry((owner, lease.clone())).or_insert_with(fresh);
        let comma = if entry.what.is_empty() { "" } else { ", " };
        entry.what.extend([comma, what, &whose]);
    }
}

/// The objects of one list; what cannot be listed is told once.
fn seen<T>(listed: Result<Vec<T>, ApiError>, owned: &mut OwnedLeases) -> Vec<T> {
    listed.unwrap_or_else(|error| {
        let fault = error.into_fault("list what is rented");
        if owned.unseen.iter().all(|known| known.message != fault.message) {
            owned.unseen.push(fault);
        }
        Vec::new()
    })
}

/// Owner and lease in the labels of an object with our mark.
fn mark(labels: &Labels) -> Option<(String, String)> {
    labels.get(names::MARK).filter(|mark| *mark == "1")?;
    Some((labels.get(names::OWNER)?.clone(), labels.get(names::LEASE)?.clone()))
}

fn instant(text: &str) -> Option<RemoteTime> {
    let parsed: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(parsed.as_millisecond()).ok().map(|at| RemoteTime(Timestamp(at)))
}
