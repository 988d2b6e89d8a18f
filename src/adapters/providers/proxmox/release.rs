//! Releases leases: the machines of the record first, by their ids, then those that the node lists. Not responsible
//! for: machines that are neither known nor marked as the lease's (never touched).

use std::time::Duration;

use tokio::time::Instant;

use super::api::Polls;
use super::api_error::ApiError;
use super::machines::{Found, Identity};
use super::provider::{Proxmox, lease_keys};
use super::record;
use crate::adapters::providers::keys;
use crate::domain::base::LeaseId;
use crate::domain::model::{Fault, FaultKind};
use crate::domain::ports::{Gone, LeaseRecord};

/// Timeout for releasing, which may have to wait for a running clone task.
const RELEASE: Duration = Duration::from_secs(600);

impl Proxmox {
    pub(super) async fn give_back(&self, lease: &LeaseId, record: &LeaseRecord) -> Result<Gone, ApiError> {
        let until = Instant::now() + RELEASE;
        // Wait for pending create requests: they could otherwise create a machine after the release, and what they
        // answer belongs in the record.
        let answered = self.machines.under_way(lease);
        let answered = answered.lock().await;
        let (known, mut deleted) = (record::machines(record), false);
        let mut first = None;
        for (id, name) in &known {
            match self.destroy_known(*id, name, lease, until).await {
                Ok(was_there) => deleted |= was_there,
                Err(trouble) => first = first.or(Some(trouble)),
            }
        }
        if let Some(trouble) = first {
            return Err(trouble);
        }
        match self.destroy_listed(lease, until).await {
            Ok(was_there) => deleted |= was_there,
            // The record has the lease's only machine: a list could tell nothing new.
            Err(trouble) if !known.is_empty() && !matches!(trouble, ApiError::Fault(_)) => {
                tracing::debug!(?trouble, "the machines cannot be listed, and need not be");
            }
            Err(trouble) => return Err(trouble),
        }
        drop(answered);
        self.machines.forget(lease);
        keys::forget(&self.keys, &lease_keys(lease))?;
        Ok(if deleted { Gone::Deleted } else { Gone::Absent })
    }

    /// Deletes a machine of the record; false if it was gone already. It is gone when its id is free, or another
    /// machine has the id.
    async fn destroy_known(&self, id: u32, name: &str, lease: &LeaseId, until: Instant) -> Result<bool, ApiError> {
        let (mut polls, mut is_settled) = (Polls::until(until), false);
        loop {
            let Some(config) = self.machines.config(id, until).await? else {
                if self.machines.is_free(id, until).await? {
                    return Ok(false);
                }
                if std::mem::replace(&mut is_settled, true) {
                    return Err(invisible(id, lease).into());
                }
                // Until its clone is done, a machine is invisible if permissions come with the pool.
                self.machines.settle(until).await?;
                continue;
            };
            // Until then it has neither name nor description.
            if config.mark.is_none() && config.lock.as_deref() == Some("clone") {
                polls.pause(|| format!("the machine {id} is still being cloned")).await?;
                continue;
            }
            let is_said = config.mark.as_ref().is_some_and(|mark| mark.lease == *lease);
            if is_said && config.name != name {
                return Err(renamed(id, &config.name, lease).into());
            }
            let identity = Identity::Known(name);
            if !self.machines.is_ours(&config, lease, identity, until).await? {
                return Ok(false);
            }
            self.machines.destroy(id, lease, identity, until).await?;
            // Renamed meanwhile, it was not deleted.
            return match self.machines.config(id, until).await? {
                Some(left) if left.mark.as_ref().is_some_and(|mark| mark.lease == *lease) => {
                    Err(renamed(id, &left.name, lease).into())
                }
                _ => Ok(true),
            };
        }
    }

    /// Deletes what the node lists of a lease; false if there was nothing.
    async fn destroy_listed(&self, lease: &LeaseId, until: Instant) -> Result<bool, ApiError> {
        let mut found = self.machines.of(lease, until).await?;
        if found.ours.is_empty() {
            // A clone shows no mark until its task ends, so wait for running clones, then search again.
            self.machines.settle(until).await?;
            found = self.machines.of(lease, until).await?;
        }
        for id in &found.ours {
            self.machines.destroy(*id, lease, Identity::Marks, until).await?;
        }
        let deleted = !found.ours.is_empty();
        // A machine whose mark was changed meanwhile was not deleted.
        let Found { renamed: other, elsewhere, unread, .. } =
            if deleted { self.machines.of(lease, until).await? } else { found };
        if let Some((id, name)) = other {
            return Err(renamed(id, &name, lease).into());
        }
        if let Some(owner) = elsewhere {
            let message = format!("the machine of lease {lease} is `{owner}`'s, and has not expired");
            let fault = Fault::new(FaultKind::Unavailable, "lian::proxmox::owner", message)
                .help("give it back from there; from here it can be given back once it has expired");
            return Err(fault.into());
        }
        match unread {
            Some(trouble) if !deleted => Err(trouble),
            _ => Ok(deleted),
        }
    }
}

fn renamed(id: u32, name: &str, lease: &LeaseId) -> Fault {
    let message = format!(
        "machine {id} is lease {lease}'s by its description, but is called {name}, or its tags are others by now"
    );
    Fault::new(FaultKind::Infrastructure, "lian::proxmox::renamed", message)
        .help("delete it in the web interface, or, if it is to stay, empty its description")
}

fn invisible(id: u32, lease: &LeaseId) -> Fault {
    let message = format!("machine {id} of lease {lease} is in the cluster, but neither node nor token see it");
    Fault::new(FaultKind::Infrastructure, "lian::proxmox::invisible", message).help(format!(
        "it was moved to another node, or out of the pool: move it back or delete it in the web interface; if the id is \
         another machine's by now: `lian-build leases gc --forget {lease}`",
    ))
}
