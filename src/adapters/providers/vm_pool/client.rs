//! Provider of a pool service's runners: acquires and releases leases. Our lease id is the idempotency key, so a lost
//! response loses no lease. Not responsible for: requests over HTTP (see `service`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::super::keys::{self, Pair};
use super::answers::{not_for, strange, unavailable, unwritable};
use super::renewal::{LEAST_TTL, Renewal, TTL};
use super::service::{LEASES, Service};
use super::settings::VmPoolSettings;
use super::token::PoolToken;
use crate::domain::base::{LeaseId, Timestamp};
use crate::domain::model::{Fault, Offer};
use crate::domain::ports::{
    AcquireRequest, ComputeProvider, Endpoint, Gone, Lease, LeaseRecord, OwnedLease, OwnedLeases, Resource, SshTarget,
};
use crate::system::RemoteTime;
use crate::system::confined::{Folder, is_name};
use crate::system::read::{self, Cap};

/// Timeout for acquiring: the service waits this long for a machine, plus time to release it on failure.
const ACQUIRE_BOUND: Duration = Duration::from_secs(30 * 60);

/// The kind of what a lease's record holds: the service's own lease id.
const LEASE: &str = "lease";

/// The file of a lease's request, in the folder of its keys.
const REQUEST: &str = "request.json";

/// Provider that leases runners from a pool service.
#[derive(Debug)]
pub struct VmPool {
    service: Service,
    workspace: String,
    keys: PathBuf,
    identity: Option<PathBuf>,
    /// How often a held lease is renewed.
    beat: Duration,
    /// Renewal tasks of held leases; each stops when its lease is released or this client is dropped.
    renewals: Mutex<BTreeMap<LeaseId, Renewal>>,
}

/// Body of an acquire request; stored beside the key pair so that a repeated request is identical.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct LeaseRequest {
    workspace: String,
    cpu: u32,
    memory_gb: u32,
    platform: String,
    ttl_s: u64,
    ssh_public_key: String,
}

#[derive(Debug, Deserialize)]
struct Granted {
    lease_id: String,
    address: String,
    port: u16,
    user: String,
    host_key: String,
    runner_type: String,
    cpu: u32,
    memory_gb: u32,
    platform: String,
}

#[derive(Debug, Deserialize)]
struct Listed {
    leases: Vec<ListedLease>,
    /// What the token is for; a service of an older version does not say it.
    workspaces: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct ListedLease {
    lease_id: String,
    idempotency_key: Option<String>,
    runner_type: Option<String>,
    address: Option<String>,
    state: String,
    created_at: String,
    expires_at: String,
}

#[derive(Debug, Deserialize)]
struct Offers {
    offers: Vec<Offer>,
}

impl VmPool {
    /// Client of one service; key pairs of leases are kept in `<keys>/<lease>/`.
    pub fn new(settings: VmPoolSettings, token: Option<PoolToken>, keys: impl Into<PathBuf>) -> Result<Self, Fault> {
        let service = Service::new(&settings.endpoint, token)?;
        let (workspace, keys, renewals) = (settings.workspace, keys.into(), Mutex::default());
        Ok(Self { service, workspace, keys, identity: None, beat: TTL / 3, renewals })
    }

    /// Like `new`, configured by `LIAN_POOL_TOKEN`, `LIAN_POOL_TOKEN_FILE` and `LIAN_POOL_IDENTITY`.
    pub fn from_env(settings: VmPoolSettings, keys: impl Into<PathBuf>) -> Result<Self, Fault> {
        let identity = std::env::var_os("LIAN_POOL_IDENTITY").filter(|value| !value.is_empty());
        Ok(Self::new(settings, PoolToken::from_env()?, keys)?.identity(identity.map(PathBuf::from)))
    }

    /// Logs in with an existing private key (public key beside it as `….pub`) instead of a new pair per lease. For
    /// pools of fixed hosts, which manage their authorized keys themselves.
    #[must_use]
    pub fn identity(mut self, identity: Option<PathBuf>) -> Self {
        self.identity = identity;
        self
    }

    /// Sets how long to retry while the quota is used up (default 15 minutes).
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.service.patience = patience;
        self
    }

    /// Sets the renewal interval (default 5 minutes).
    #[must_use]
    pub fn beat(mut self, beat: Duration) -> Self {
        self.beat = beat;
        self
    }

    async fn list(&self) -> Result<Listed, Fault> {
        let (_, json) = self.service.ask(|| self.service.request(Method::GET, LEASES)).await?;
        serde_json::from_value(json).map_err(|error| strange(&self.service.endpoint, &error.to_string()))
    }

    /// Fails if the token is not for the workspace that our leases are in: to such a token they look as if they were gone.
    async fn is_for_our_workspace(&self) -> Result<(), Fault> {
        match self.list().await?.workspaces {
            Some(of) if !of.iter().any(|name| name == "*" || *name == self.workspace) => {
                Err(not_for(&self.workspace, &self.service.endpoint))
            }
            _ => Ok(()),
        }
    }

    async fn listed(&self) -> Result<Vec<OwnedLease>, Fault> {
        let own = self.list().await?.leases.into_iter().filter_map(|lease| {
            let what = format!(
                "{} {}{} of the pool at {}, {}",
                lease.runner_type.as_deref().unwrap_or("machine"),
                lease.lease_id,
                lease.address.map(|address| format!(" at {address}")).unwrap_or_default(),
                self.service.endpoint,
                lease.state,
            );
            Some(OwnedLease {
                lease: LeaseId::new(lease.idempotency_key?),
                run: None,
                what,
                created: self.here(&lease.created_at),
                expires: self.here(&lease.expires_at),
            })
        });
        Ok(own.collect())
    }

    /// A time that the service tells, by this machine's clock.
    fn here(&self, text: &str) -> Option<Timestamp> {
        time(text).map(|at| self.service.clock.here(RemoteTime(at)))
    }

    fn renewals(&self) -> std::sync::MutexGuard<'_, BTreeMap<LeaseId, Renewal>> {
        self.renewals.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The stored request body of a lease; created on first use.
    async fn lease_request(&self, request: &AcquireRequest, folder: &Folder) -> Result<LeaseRequest, Fault> {
        let kept = folder.path().join(REQUEST);
        match folder.read(REQUEST, Cap::Answer.most()) {
            Ok(text) => {
                if let Ok(lease_request) = serde_json::from_slice(&text) {
                    return Ok(lease_request);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            // Another request under the same key would be refused, or pay for a second machine.
            Err(error) => return Err(unwritable(&kept, &error)),
        }
        let ssh_public_key = match (&request.authorized_key, &self.identity) {
            (Some(key), _) => key.clone(),
            (None, Some(identity)) => public_half(identity)?,
            (None, None) => Pair::ensure(folder, "id").await?.public,
        };
        let whole = request.lifetime;
        // For a lease held by a client of ours, request the full lifetime: we may not be running to renew it.
        let ttl = if request.authorized_key.is_some() { whole } else { whole.min(TTL) };
        let lease_request = LeaseRequest {
            workspace: self.workspace.clone(),
            cpu: request.size.cpu,
            memory_gb: request.size.memory_gb,
            platform: request.platform.to_string(),
            ttl_s: ttl.max(LEAST_TTL).as_secs(),
            ssh_public_key,
        };
        let text = serde_json::to_vec(&lease_request).expect("invariant: a lease_request is plain data");
        // Write atomically: a partial file would be a different request.
        folder.write_whole(REQUEST, &text).map_err(|error| unwritable(&kept, &error))?;
        Ok(lease_request)
    }
}

/// The name of the folder of a lease's key pair.
fn lease_keys(lease: &LeaseId) -> Result<&str, Fault> {
    let name = lease.as_str();
    let sound = !name.starts_with('.') && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    if name.is_empty() || !sound {
        return Err(unavailable("lease", format!("`{name}` is not one of our leases"), "see `lian-build leases`"));
    }
    Ok(name)
}

fn public_half(identity: &Path) -> Result<String, Fault> {
    let mut public = identity.as_os_str().to_owned();
    public.push(".pub");
    read::text_of_user(Path::new(&public), Cap::Credential).map(|key| key.trim().to_owned()).map_err(|error| {
        let message = format!("{} cannot be read: {error}", Path::new(&public).display());
        unavailable("identity", message, "put the public half beside the private key: ssh-keygen -y -f KEY > KEY.pub")
    })
}

#[async_trait]
impl ComputeProvider for VmPool {
    async fn offers(&self) -> Result<Vec<Offer>, Fault> {
        let (_, json) = self.service.ask(|| self.service.request(Method::GET, "/api/v1/offers")).await?;
        let read = serde_json::from_value::<Offers>(json);
        read.map(|read| read.offers).map_err(|error| strange(&self.service.endpoint, &error.to_string()))
    }

    async fn acquire(&self, request: &AcquireRequest, record: &LeaseRecord) -> Result<Lease, Fault> {
        let folder = keys::folder(&self.keys, lease_keys(&request.lease)?)?;
        let expires = Instant::now() + request.lifetime;
        let lease_request = self.lease_request(request, &folder).await?;
        let make = || {
            let post = self.service.request(Method::POST, LEASES);
            post.header("Idempotency-Key", request.lease.as_str()).json(&lease_request)
        };
        let (_, json) = self.service.ask_for(ACQUIRE_BOUND, make).await?;
        // It becomes a part of addresses, and of the ledger. Without it, the lease is given back by our key.
        match json["lease_id"].as_str() {
            Some(id) if is_name(id) => record.learn(Resource::new(LEASE, id)).await,
            Some(_) => return Err(strange(&self.service.endpoint, "its `lease_id` is not a name")),
            None => {}
        }
        let granted: Granted =
            serde_json::from_value(json).map_err(|error| strange(&self.service.endpoint, &error.to_string()))?;
        let Granted { lease_id, address, port, user, host_key, runner_type, cpu, memory_gb, platform } = granted;
        let own = || self.identity.clone().unwrap_or_else(|| folder.path().join("id"));
        let identity = request.authorized_key.is_none().then(own);
        if request.authorized_key.is_none() {
            let renewal = Renewal::of(self.service.clone(), &lease_id, expires, self.beat);
            self.renewals().insert(request.lease.clone(), renewal);
        }
        let endpoint = Endpoint::Ssh(SshTarget { address, port, user, host_key, identity, is_configured: false });
        let offer = Offer { runner_type, cpu, memory_gb, platform: platform.into(), price: None };
        Ok(Lease { id: request.lease.clone(), offer, endpoint, ready_by: None })
    }

    /// If the service cannot release at once, it keeps trying; until it succeeds, this returns a failure. A lease that
    /// the service still shows after that is not gone, whatever it answered.
    async fn release(&self, lease: &LeaseId, record: &LeaseRecord) -> Result<Gone, Fault> {
        self.renewals().remove(lease);
        let folder = lease_keys(lease)?;
        let mut end = Gone::Absent;
        for known in record.of(LEASE) {
            if self.service.give_back_by_id(lease, &known.id).await? {
                end = Gone::Deleted;
            } else {
                self.is_for_our_workspace().await?;
            }
        }
        // By our key too: a request that is still on its way must make nothing.
        let by_key = || self.service.request(Method::DELETE, LEASES).query(&[("idempotency_key", lease.as_str())]);
        self.service.give_back(lease, by_key).await?;
        keys::forget(&self.keys, folder)?;
        Ok(end)
    }

    /// Leases acquired with this token.
    async fn owned(&self) -> OwnedLeases {
        self.listed().await.into()
    }
}

fn time(text: &str) -> Option<Timestamp> {
    let at = text.parse::<jiff::Timestamp>().ok()?.as_millisecond();
    u64::try_from(at).ok().map(Timestamp)
}

#[cfg(test)]
#[path = "bytes_tests.rs"]
mod bytes_tests;
#[cfg(test)]
#[path = "tests.rs"]
mod tests;
