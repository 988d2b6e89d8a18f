//! The Proxmox VE node as a provider: its sizes, and one machine per lease. Not responsible for: how a machine is
//! created and destroyed.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::api_error::ApiError;
use super::boot::MachineRequest;
use super::machines::Machines;
use super::mark::Mark;
use super::settings::ProxmoxSettings;
use super::token::Token;
use crate::adapters::providers::keys::{self, Pair};
use crate::domain::base::LeaseId;
use crate::domain::model::{Fault, FaultKind};
use crate::domain::ports::{AcquireRequest, ComputeProvider, Endpoint, Lease, Offer, OwnedLease, SshTarget};
use crate::system::now;

/// Sizes as (CPUs, GB of memory), smallest first.
const SIZES: [(u32, u32); 4] = [(2, 4), (4, 8), (8, 16), (16, 32)];
/// Timeout for releasing, which may have to wait for a running clone task.
const RELEASE: Duration = Duration::from_secs(600);
/// Timeout for listing.
const LOOK: Duration = Duration::from_secs(120);

/// A node of a Proxmox VE cluster that holds a template.
#[derive(Debug)]
pub struct Proxmox {
    machines: Machines,
    settings: ProxmoxSettings,
    keys: PathBuf,
    boot_timeout: Duration,
}

impl Proxmox {
    /// Creates the provider; sends nothing yet. `owner` identifies our machines, `keys` is the folder of the leases'
    /// key pairs, `boot_timeout` limits the time from request to ready.
    ///
    /// # Errors
    /// `lian::proxmox::endpoint`, `…::no_pin` or `…::ca` if the endpoint is invalid or cannot be trusted.
    pub fn new(
        settings: ProxmoxSettings,
        token: Token,
        owner: String,
        keys: PathBuf,
        boot_timeout: Duration,
    ) -> Result<Self, Fault> {
        let machines = Machines::new(&settings, token, owner)?;
        Ok(Self { machines, settings, keys, boot_timeout })
    }

    fn sizes(&self) -> Vec<Offer> {
        let offer = |&(cpu, memory_gb): &(u32, u32)| Offer {
            runner_type: format!("{cpu}c{memory_gb}g"),
            cpu,
            memory_gb,
            platform: self.settings.platform.clone(),
            price: None,
        };
        SIZES.iter().map(offer).collect()
    }

    /// The smallest sufficient size.
    fn size(&self, request: &AcquireRequest) -> Result<Offer, Fault> {
        let machine_request = &request.size;
        let fits = |offer: &Offer| {
            offer.cpu >= machine_request.cpu
                && offer.memory_gb >= machine_request.memory_gb
                && offer.platform == request.platform
        };
        self.sizes().into_iter().find(fits).ok_or_else(|| {
            let message =
                format!("no machine of {} CPUs and {} GB for {}", machine_request.cpu, machine_request.memory_gb, request.platform);
            Fault::new(FaultKind::Unavailable, "lian::proxmox::no_size", message).help(format!(
                "the template makes machines of up to 16 CPUs and 32 GB for {}: ask for less in .build-spec.ncl, or use \
                 another provider",
                self.settings.platform
            ))
        })
    }

    async fn obtain(&self, request: &AcquireRequest) -> Result<Lease, ApiError> {
        let (until, ready_by) = (Instant::now() + self.boot_timeout, Some(now().plus(self.boot_timeout)));
        let offer = self.size(request)?;
        let (identity, key) = match &request.authorized_key {
            Some(key) => (None, key.clone()),
            None => {
                let pair = Pair::ensure(&self.lease_keys(&request.lease), "client").await?;
                (Some(pair.private), pair.public)
            }
        };
        let mark = Mark {
            lease: request.lease.clone(),
            run: request.run.clone(),
            owner: self.machines.owner.clone(),
            expires: request.expires,
            created: Some(now()),
        };
        let machine_request = MachineRequest { mark, offer: &offer, key: &key };
        let id = self.machines.running(&machine_request, &self.settings, until).await?;
        let (address, host_key) = self.machines.ready(id, until).await?;
        let (address, port, user) = (address.to_string(), 22, "root".to_owned());
        let endpoint = Endpoint::Ssh(SshTarget { address, port, user, host_key, identity });
        Ok(Lease { id: request.lease.clone(), offer, endpoint, ready_by })
    }

    async fn give_back(&self, lease: &LeaseId) -> Result<(), ApiError> {
        let until = Instant::now() + RELEASE;
        // Wait for pending create requests: they could otherwise create a machine after the release.
        let answered = self.machines.under_way(lease);
        let answered = answered.lock().await;
        let mut found = self.machines.of(lease, until).await?;
        if found.ours.is_empty() {
            // A clone shows no mark until its task ends, so wait for running clones, then search again.
            self.machines.settle(until).await?;
            found = self.machines.of(lease, until).await?;
        }
        for id in &found.ours {
            self.machines.destroy(*id, lease, until).await?;
        }
        // A machine whose mark was changed meanwhile was not deleted.
        let left = if found.ours.is_empty() { found } else { self.machines.of(lease, until).await? };
        if let Some((id, name)) = left.renamed {
            return Err(renamed(id, &name, lease).into());
        }
        if let Some(owner) = left.elsewhere {
            let message = format!("the machine of lease {lease} is `{owner}`'s, and has not expired");
            let fault = Fault::new(FaultKind::Unavailable, "lian::proxmox::owner", message)
                .help("give it back from there; from here it can be given back once it has expired");
            return Err(fault.into());
        }
        drop(answered);
        self.machines.forget(lease);
        keys::forget(&self.lease_keys(lease))?;
        Ok(())
    }

    fn lease_keys(&self, lease: &LeaseId) -> PathBuf {
        let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' };
        self.keys.join(lease.as_str().chars().map(safe).collect::<String>())
    }
}

fn renamed(id: u32, name: &str, lease: &LeaseId) -> Fault {
    let message = format!(
        "machine {id} is lease {lease}'s by its description, but is called {name}, or its tags are others by now"
    );
    Fault::new(FaultKind::Infrastructure, "lian::proxmox::renamed", message)
        .help("delete it in the web interface, or, if it is to stay, empty its description")
}

#[async_trait]
impl ComputeProvider for Proxmox {
    async fn offers(&self) -> Result<Vec<Offer>, Fault> {
        Ok(self.sizes())
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<Lease, Fault> {
        self.obtain(request).await.map_err(|trouble| trouble.fault(self.boot_timeout))
    }

    async fn release(&self, lease: &LeaseId) -> Result<(), Fault> {
        self.give_back(lease).await.map_err(|trouble| trouble.fault(self.boot_timeout))
    }

    async fn owned(&self) -> Result<Vec<OwnedLease>, Fault> {
        let marked = self.machines.marked(Instant::now() + LOOK).await;
        let marked = marked.map_err(|trouble| trouble.fault(self.boot_timeout))?;
        let owned = |(id, mark): (u32, Mark)| OwnedLease {
            what: format!("machine {id} of {}, {}'s", self.settings.node, mark.owner),
            lease: mark.lease,
            run: Some(mark.run),
            created: mark.created,
            expires: Some(mark.expires),
        };
        Ok(marked.into_iter().map(owned).collect())
    }
}
