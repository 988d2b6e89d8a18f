//! A lease as stored in the ledger. Not responsible for: changing its state (`pool`), what callers see of it (`views`).

use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::request::LeaseRequest;
use crate::domain::base::{Hasher, LayerName, LeaseId, Platform, RunId, Timestamp};
use crate::domain::model::{Fault, Size};
use crate::domain::ports::{AcquireRequest, Endpoint, Lease, SshTarget};

/// A granted machine and its SSH endpoint. Omits the private key, if the provider has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// IPv4 address, IPv6 address or host name.
    pub address: String,
    /// Port of sshd.
    pub port: u16,
    /// Login user.
    pub user: String,
    /// The only host key to accept.
    pub host_key: String,
    /// The provider's name for the size.
    pub runner_type: String,
    /// Virtual CPUs.
    pub cpu: u32,
    /// Memory, GB.
    pub memory_gb: u32,
    /// Platform, e.g. `linux/arm64`.
    pub platform: Platform,
}

impl Machine {
    /// The machine of a lease. Fails if other machines cannot reach it over SSH.
    pub fn of(lease: Lease) -> Result<Self, Fault> {
        let Endpoint::Ssh(SshTarget { address, port, user, host_key, .. }) = lease.endpoint else {
            let message = "the pool's provider has no machines that others can reach";
            let fault = Fault::configuration("lian::serve::not_remote", message);
            return Err(fault.help("serve a provider whose machines have an sshd, e.g. 'ssh"));
        };
        let offer = lease.offer;
        let (runner_type, cpu, memory_gb, platform) = (offer.runner_type, offer.cpu, offer.memory_gb, offer.platform);
        Ok(Self { address, port, user, host_key, runner_type, cpu, memory_gb, platform })
    }
}

/// State of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Recorded; the provider has not answered yet.
    Asked,
    /// Granted and in use.
    Held,
    /// Being released.
    Releasing,
    /// Several releases failed; attempts continue.
    Stuck,
    /// Gone; its idempotency key is remembered for a while.
    Released,
}

impl State {
    /// As stored in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Held => "held",
            Self::Releasing => "releasing",
            Self::Stuck => "stuck",
            Self::Released => "released",
        }
    }

    /// Parses the stored form; unknown text means `Releasing`.
    pub fn read(text: &str) -> Self {
        match text {
            "asked" => Self::Asked,
            "held" => Self::Held,
            "stuck" => Self::Stuck,
            "released" => Self::Released,
            _ => Self::Releasing,
        }
    }
}

/// A lease in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Id, here and at the provider.
    pub id: LeaseId,
    /// Name of the token that requested it.
    pub owner: String,
    /// The caller's idempotency key.
    pub key: String,
    /// The request; `None` if the key was released before any request used it.
    pub lease_request: Option<LeaseRequest>,
    /// Its state.
    pub state: State,
    /// Time of the request.
    pub asked: Timestamp,
    /// When it is released automatically.
    pub expires: Timestamp,
    /// The machine, once granted.
    pub machine: Option<Machine>,
    /// Number of failed releases.
    pub failures: u32,
    /// Reason of the last failure.
    pub fault: Option<String>,
    /// Until then an unanswered create call may still produce a machine.
    pub settles: Timestamp,
}

impl Row {
    /// What the ledger is to note of a key that is given back, whether a request has used it or not.
    pub fn to_give_back(owner: &str, key: &str, at: Timestamp) -> Self {
        Self {
            id: lease_id(owner, key),
            owner: owner.to_owned(),
            key: key.to_owned(),
            lease_request: None,
            state: State::Releasing,
            asked: at,
            expires: at,
            machine: None,
            failures: 0,
            fault: None,
            settles: Timestamp(0),
        }
    }

    /// Workspace of the lease; empty if there was no request.
    pub fn workspace(&self) -> &str {
        self.lease_request.as_ref().map_or("", |lease_request| &lease_request.workspace)
    }

    /// The request for the provider. Its lifetime ends at the latest time that renewals can reach.
    pub fn request(&self, max_ttl_s: u64, now: Timestamp) -> Option<AcquireRequest> {
        let lease_request = self.lease_request.as_ref()?;
        let minutes = u32::try_from(max_ttl_s.div_ceil(60)).unwrap_or(u32::MAX);
        Some(AcquireRequest {
            lease: self.id.clone(),
            run: RunId::new(format!("pool-{}", lease_request.workspace)),
            layer: LayerName::from("pool"),
            size: Size {
                runner_type: "pool".to_owned(),
                cpu: lease_request.cpu,
                memory_gb: lease_request.memory_gb,
                time_budget_min: minutes,
                tier: "explicit".to_owned(),
            },
            platform: lease_request.platform.clone(),
            lifetime: self.asked.plus(std::time::Duration::from_secs(max_ttl_s)).since(now),
            authorized_key: Some(lease_request.ssh_public_key.clone()),
        })
    }
}

/// Lease id of a caller's key; always the same for the same owner and key.
pub fn lease_id(owner: &str, key: &str) -> LeaseId {
    let mut hasher = Hasher::default();
    // Names contain no zero byte, so the separator is unambiguous.
    hasher.update(owner.as_bytes());
    hasher.update(&[0]);
    hasher.update(key.as_bytes());
    LeaseId::new(format!("pool-{}", &hasher.finish().hex()[..24]))
}

/// Whether a text has the form of a lease id.
pub fn is_lease_id(text: &str) -> bool {
    let digits = text.strip_prefix("pool-").unwrap_or("");
    digits.len() == 24 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Longest idempotency key, in bytes.
pub const KEY_MOST: usize = 128;

/// Where a request carries the idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyIn {
    /// The header `Idempotency-Key` of a lease request.
    Header,
    /// The parameter `?idempotency_key=` of a release request.
    Query,
}

impl KeyIn {
    fn missing(self) -> &'static str {
        match self {
            Self::Header => "the header `Idempotency-Key` is missing",
            Self::Query => "the request names no lease",
        }
    }

    fn help(self) -> &'static str {
        match self {
            Self::Header => {
                "choose a text for each lease, send it as the header `Idempotency-Key`, and again when you repeat the request"
            }
            Self::Query => {
                "say which lease: DELETE /api/v1/vm-pool?idempotency_key=KEY, or DELETE /api/v1/vm-pool/{lease_id}"
            }
        }
    }
}

/// Checks an idempotency key: 1 to 128 printable ASCII characters without spaces.
pub fn read_key(key: Option<&str>, place: KeyIn) -> Result<String, Problem> {
    let refused = |message: &str| Err(Problem::new(400, "idempotency_key", message, place.help()));
    match key {
        Some(key) if (1..=KEY_MOST).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Ok(key.to_owned())
        }
        Some(_) => refused("the idempotency key is not 1 to 128 printable ASCII characters without spaces"),
        None => refused(place.missing()),
    }
}
