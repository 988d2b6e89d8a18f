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
use crate::domain::ports::{
    AcquireRequest, ComputeProvider, Endpoint, Gone, Lease, LeaseRecord, Offer, OwnedLease, OwnedLeases, SshTarget,
};
use crate::system::now;

/// Sizes as (CPUs, GB of memory), smallest first.
const SIZES: [(u32, u32); 4] = [(2, 4), (4, 8), (8, 16), (16, 32)];
/// Timeout for listing.
const LOOK: Duration = Duration::from_secs(120);

/// A node of a Proxmox VE cluster that holds a template.
#[derive(Debug)]
pub struct Proxmox {
    pub(super) machines: Machines,
    settings: ProxmoxSettings,
    pub(super) keys: PathBuf,
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

    async fn obtain(&self, request: &AcquireRequest, record: &LeaseRecord) -> Result<Lease, ApiError> {
        let (until, ready_by) = (Instant::now() + self.boot_timeout, Some(now().plus(self.boot_timeout)));
        let offer = self.size(request)?;
        let (identity, key) = match &request.authorized_key {
            Some(key) => (None, key.clone()),
            None => {
                let folder = keys::folder(&self.keys, &lease_keys(&request.lease))?;
                let pair = Pair::ensure(&folder, "client").await?;
                (Some(pair.private), pair.public)
            }
        };
        let clock = self.machines.api.clock();
        let mark = Mark {
            lease: request.lease.clone(),
            run: request.run.clone(),
            owner: self.machines.owner.clone(),
            expires: clock.after(request.lifetime),
            created: Some(clock.now()),
        };
        let machine_request = MachineRequest { mark, offer: &offer, key: &key, record };
        let id = self.machines.running(&machine_request, &self.settings, until).await?;
        let (address, host_key) = self.machines.ready(id, until).await?;
        let (address, port, user) = (address.to_string(), 22, "root".to_owned());
        let endpoint = Endpoint::Ssh(SshTarget { address, port, user, host_key, identity, is_configured: false });
        Ok(Lease { id: request.lease.clone(), offer, endpoint, ready_by })
    }
}

/// The folder of a lease's keys.
pub(super) fn lease_keys(lease: &LeaseId) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' };
    lease.as_str().chars().map(safe).collect()
}

#[async_trait]
impl ComputeProvider for Proxmox {
    async fn offers(&self) -> Result<Vec<Offer>, Fault> {
        Ok(self.sizes())
    }

    async fn acquire(&self, request: &AcquireRequest, record: &LeaseRecord) -> Result<Lease, Fault> {
        self.obtain(request, record).await.map_err(|trouble| trouble.fault(self.boot_timeout))
    }

    async fn release(&self, lease: &LeaseId, record: &LeaseRecord) -> Result<Gone, Fault> {
        self.give_back(lease, record).await.map_err(|trouble| trouble.fault(self.boot_timeout))
    }

    async fn owned(&self) -> OwnedLeases {
        let fault = |trouble: ApiError| trouble.fault(self.boot_timeout);
        let (marked, unread) = match self.machines.marked(Instant::now() + LOOK).await {
            Ok(marked) => marked,
            Err(trouble) => return OwnedLeases::from(Err(fault(trouble))),
        };
        let clock = self.machines.api.clock();
        let owned = |(id, mark): (u32, Mark)| OwnedLease {
            what: format!("machine {id} of {}, {}'s", self.settings.node, mark.owner),
            lease: mark.lease,
            run: Some(mark.run),
            created: mark.created.map(|at| clock.here(at)),
            expires: Some(clock.here(mark.expires)),
        };
        OwnedLeases { leases: marked.into_iter().map(owned).collect(), unseen: unread.into_iter().map(fault).collect() }
    }
}
