//! A lease as the ledger keeps it and as callers see it. Not responsible for: deciding about it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::problem::Problem;
use super::request::LeaseRequest;
use crate::domain::base::{Hasher, LayerName, LeaseId, Platform, RunId, Timestamp};
use crate::domain::model::{Fault, Size};
use crate::domain::ports::{AcquireRequest, Endpoint, Lease, SshTarget};

/// What was granted, and where it is. The private key, if the provider has one, is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// IPv4, IPv6 or a name.
    pub address: String,
    /// sshd's port.
    pub port: u16,
    /// Who logs in.
    pub user: String,
    /// The only host key to accept.
    pub host_key: String,
    /// The provider's name for the size.
    pub runner_type: String,
    /// Virtual CPUs.
    pub cpu: u32,
    /// Memory, GB.
    pub memory_gb: u32,
    /// `linux/arm64` and the like.
    pub platform: Platform,
}

impl Machine {
    /// Of a lease that others can reach.
    pub fn of(lease: Lease) -> Result<Self, Fault> {
        let Endpoint::Ssh(SshTarget { address, port, user, host_key, .. }) = lease.reach else {
            let message = "the pool's provider has no machines that others can reach";
            let fault = Fault::configuration("lian::serve::not_remote", message);
            return Err(fault.help("serve a provider whose machines have an sshd, e.g. 'ssh"));
        };
        let offer = lease.offer;
        let (runner_type, cpu, memory_gb, platform) = (offer.runner_type, offer.cpu, offer.memory_gb, offer.platform);
        Ok(Self { address, port, user, host_key, runner_type, cpu, memory_gb, platform })
    }
}

/// How a lease stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The provider was asked, or is about to be.
    Asked,
    /// Its caller uses it.
    Held,
    /// It is being given back.
    Releasing,
    /// Giving it back failed several times; it is tried on.
    Stuck,
    /// It is gone; its idempotency key is remembered for a while.
    Released,
}

impl State {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Held => "held",
            Self::Releasing => "releasing",
            Self::Stuck => "stuck",
            Self::Released => "released",
        }
    }

    /// As it was written.
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
    /// Its id, here and at the provider.
    pub id: LeaseId,
    /// The token that asked.
    pub owner: String,
    /// The caller's own name for it.
    pub key: String,
    /// What was asked for; none where a key was given back that nobody had asked with.
    pub wish: Option<LeaseRequest>,
    /// How it stands.
    pub state: State,
    /// When it was asked for.
    pub asked: Timestamp,
    /// When it is given back by itself.
    pub expires: Timestamp,
    /// What was granted.
    pub machine: Option<Machine>,
    /// How often giving it back failed.
    pub failures: u32,
    /// Why it failed last.
    pub fault: Option<String>,
    /// Until then a call that nobody heard the answer of may still make a machine.
    pub settles: Timestamp,
}

impl Row {
    /// For whom it is.
    pub fn workspace(&self) -> &str {
        self.wish.as_ref().map_or("", |wish| &wish.workspace)
    }

    /// What callers see; its idempotency key only where it is their own.
    pub fn shown(&self, caller: &str) -> Value {
        let wish = self.wish.as_ref();
        let machine = self.machine.as_ref();
        let mut shown = json!({
            "lease_id": self.id,
            "workspace": self.workspace(),
            "state": self.state.as_str(),
            "address": machine.map(|machine| &machine.address),
            "port": machine.map(|machine| machine.port),
            "user": machine.map(|machine| &machine.user),
            "host_key": machine.map(|machine| &machine.host_key),
            "runner_type": machine.map(|machine| &machine.runner_type),
            "cpu": machine.map(|machine| machine.cpu).or(wish.map(|wish| wish.cpu)),
            "memory_gb": machine.map(|machine| machine.memory_gb).or(wish.map(|wish| wish.memory_gb)),
            "platform": machine.map(|machine| &machine.platform).or(wish.map(|wish| &wish.platform)),
            "created_at": rfc3339(self.asked),
            "expires_at": rfc3339(self.expires),
            "failures": self.failures,
            "fault": self.fault,
        });
        if self.owner == caller {
            shown["idempotency_key"] = json!(self.key);
        }
        shown
    }

    /// What the provider is asked. Its own bound is the longest that renewals can come to.
    pub fn request(&self, max_ttl_s: u64) -> Option<AcquireRequest> {
        let wish = self.wish.as_ref()?;
        let minutes = u32::try_from(max_ttl_s.div_ceil(60)).unwrap_or(u32::MAX);
        Some(AcquireRequest {
            lease: self.id.clone(),
            run: RunId::new(format!("pool-{}", wish.workspace)),
            layer: LayerName::from("pool"),
            size: Size {
                runner_type: "pool".to_owned(),
                cpu: wish.cpu,
                memory_gb: wish.memory_gb,
                time_budget_min: minutes,
                tier: "explicit".to_owned(),
            },
            platform: wish.platform.clone(),
            expires: self.asked.plus(std::time::Duration::from_secs(max_ttl_s)),
            authorized_key: Some(wish.ssh_public_key.clone()),
        })
    }
}

/// The lease that a caller means by his key: the same for the same key, for ever.
pub fn lease_id(owner: &str, key: &str) -> LeaseId {
    let mut hasher = Hasher::default();
    // A name holds no zero byte.
    hasher.update(owner.as_bytes());
    hasher.update(&[0]);
    hasher.update(key.as_bytes());
    LeaseId::new(format!("pool-{}", &hasher.finish().hex()[..24]))
}

/// Where a request names its lease by the caller's own key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyIn {
    /// The header `Idempotency-Key` of a request for a machine.
    Header,
    /// `?idempotency_key=` of a request to give one back.
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

/// An idempotency key as callers may choose it: 1 to 128 printable ASCII characters.
pub fn read_key(key: Option<&str>, place: KeyIn) -> Result<String, Problem> {
    let refused = |message: &str| Err(Problem::new(400, "idempotency_key", message, place.help()));
    match key {
        Some(key) if (1..=128).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Ok(key.to_owned())
        }
        Some(_) => refused("the idempotency key is not 1 to 128 printable ASCII characters without spaces"),
        None => refused(place.missing()),
    }
}

/// `2026-11-23T08:00:00Z`.
fn rfc3339(at: Timestamp) -> String {
    let seconds = i64::try_from(at.0 / 1000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).to_string()
}
