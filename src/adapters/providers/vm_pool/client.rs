//! HTTP client of the pool service: acquires, renews and releases leases. Our lease id is the idempotency key, so a
//! lost response loses no lease. Not responsible for: what a response means (see `answers`).

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::AUTHORIZATION;
use reqwest::{Client, Method, RequestBuilder, StatusCode, Url};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::super::keys::Pair;
use super::answers::{Refusal, configuration, infrastructure, refusal, strange, unavailable, unwritable};
use super::settings::VmPoolSettings;
use super::token::PoolToken;
use crate::domain::base::{LeaseId, Timestamp};
use crate::domain::model::{Fault, Offer};
use crate::domain::ports::{
    AcquireRequest, ComputeProvider, Endpoint, Gone, Lease, LeaseRecord, OwnedLease, OwnedLeases, Resource, SshTarget,
};
use crate::system::error_chain::with_causes;
use crate::system::files::write_whole;
use crate::system::http::{API_ANSWER_BYTES, BodyError, client_for, date, is_loopback, read_body, retry_after};
use crate::system::retry::{Backoff, Retry, retry};
use crate::system::watch::{SignsOfLife, until_silent};
use crate::system::{RemoteClock, RemoteTime};

/// Timeout for acquiring: the service waits this long for a machine, plus time to release it on failure.
const ACQUIRE_BOUND: Duration = Duration::from_secs(30 * 60);
/// Timeout for all other requests; the service answers them within a minute.
const ANSWER_BOUND: Duration = Duration::from_secs(90);
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Longest pause between retries, even if the service asks for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Retry schedule for requests that got no response or a temporary failure.
const AGAIN: Backoff = Backoff::of_requests(Duration::from_millis(250), LONGEST_PAUSE, 7);
/// Lifetime requested per renewal. Short, so that the lease of a dead run expires soon.
const TTL: Duration = Duration::from_secs(15 * 60);
/// The shortest lifetime that the pool accepts.
const LEAST_TTL: Duration = Duration::from_secs(60);
/// How long to retry while the quota is used up.
const QUOTA_PATIENCE: Duration = Duration::from_secs(15 * 60);

/// The path of all leases.
const LEASES: &str = "/api/v1/vm-pool";
/// The kind of what a lease's record holds: the service's own lease id.
const LEASE: &str = "lease";

/// Provider that leases runners from a pool service.
#[derive(Debug)]
pub struct VmPool {
    client: Client,
    endpoint: String,
    workspace: String,
    token: Option<PoolToken>,
    keys: PathBuf,
    identity: Option<PathBuf>,
    patience: Duration,
    /// How often a held lease is renewed.
    beat: Duration,
    /// The service's clock, in which its times stand.
    clock: RemoteClock,
    /// Renewal tasks of held leases; each stops when its lease is released or this client is dropped.
    renewals: Mutex<BTreeMap<LeaseId, Renewal>>,
}

/// A task that is aborted on drop.
#[derive(Debug)]
struct Renewal(tokio::task::JoinHandle<()>);

impl Drop for Renewal {
    fn drop(&mut self) {
        self.0.abort();
    }
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
        let shown = &settings.endpoint;
        let address: Url = shown.parse().map_err(|error| {
            configuration("endpoint", format!("`{shown}` is not an address: {error}"), "write `https://host[:port]`")
        })?;
        if address.scheme() != "https" && token.is_some() && !is_loopback(&address) {
            let message = format!("the pool's token would be sent unencrypted to {shown}");
            return Err(configuration("plain_http", message, "write `https://…` in `providers.vm_pool.endpoint`"));
        }
        // Keepalive: proxies in between must not drop the connection while a machine boots for minutes.
        let client = client_for(&address).tcp_keepalive(KEEPALIVE).build().map_err(|error| {
            unavailable(
                "client",
                format!("cannot create an HTTP client: {error}"),
                "check whether this machine's CA certificates are there",
            )
        })?;
        let (endpoint, workspace) = (shown.trim_end_matches('/').to_owned(), settings.workspace);
        let (keys, renewals) = (keys.into(), Mutex::default());
        let (patience, beat) = (QUOTA_PATIENCE, TTL / 3);
        Ok(Self {
            client,
            endpoint,
            workspace,
            token,
            keys,
            identity: None,
            patience,
            beat,
            clock: RemoteClock::default(),
            renewals,
        })
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
        self.patience = patience;
        self
    }

    /// Sets the renewal interval (default 5 minutes).
    #[must_use]
    pub fn beat(mut self, beat: Duration) -> Self {
        self.beat = beat;
        self
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        asked(&self.client, self.token.as_ref(), method, &format!("{}{path}", self.endpoint))
    }

    /// Renews a lease periodically until it expires. A failed renewal is retried at the next interval; three
    /// intervals fit into the remaining lifetime.
    fn renewal(&self, lease_id: &str, expires: Instant) -> Renewal {
        let (client, token, beat) = (self.client.clone(), self.token.clone(), self.beat);
        let address = format!("{}/api/v1/vm-pool/{lease_id}/renew", self.endpoint);
        Renewal(tokio::spawn(async move {
            loop {
                tokio::time::sleep(beat).await;
                let left = expires.saturating_duration_since(Instant::now());
                if left < LEAST_TTL {
                    return;
                }
                let lease_request = serde_json::json!({ "ttl_s": left.min(TTL).as_secs() });
                let answer = asked(&client, token.as_ref(), Method::POST, &address).json(&lease_request).send().await;
                match answer.map(|response| response.status()) {
                    Ok(status) if status.is_success() => {}
                    Ok(StatusCode::NOT_FOUND | StatusCode::CONFLICT | StatusCode::GONE) => return,
                    Ok(status) => tracing::warn!(%status, "the pool does not renew a lease"),
                    Err(error) => tracing::warn!("a lease is not renewed: {}", with_causes(&error.without_url())),
                }
            }
        }))
    }

    /// Sends a request and retries until the response is final; the body is JSON or empty.
    async fn ask(&self, make: impl Fn() -> RequestBuilder) -> Result<(StatusCode, Value), Fault> {
        self.answered(make).await.map_err(Fault::from)
    }

    /// As [`Self::ask`], with how the service refused.
    async fn answered(&self, make: impl Fn() -> RequestBuilder) -> Result<(StatusCode, Value), Refusal> {
        let (started, mut failures) = (Instant::now(), 0);
        let judge = |refusal: &Refusal| match refusal {
            Refusal::Full(_, after) if started.elapsed() + *after <= self.patience => {
                tracing::warn!("the pool is full: waiting");
                Retry::Uncounted(Some(*after))
            }
            Refusal::Full(..) | Refusal::Final(_) | Refusal::Absent(_) => Retry::Never,
            Refusal::Passing(fault, after) => {
                failures += 1;
                if failures == 3 {
                    tracing::warn!("{}; trying again", fault.message);
                }
                Retry::Counted(*after)
            }
        };
        // A request may take minutes, while a machine boots. The pool itself answers at once as long as it lives.
        let signs = SignsOfLife::default();
        tokio::select! {
            biased;
            answer = retry(AGAIN.pauses(), || self.answer(make()), judge) => answer,
            _ = until_silent(&signs, || self.greeted()) => {
                let message = format!("the pool at {} does not answer any more", self.endpoint);
                let help = "check whether the service runs and `providers.vm_pool.endpoint` is its address";
                Err(Refusal::Final(infrastructure("silent", message, help)))
            }
        }
    }

    /// Whether the service shows a lease of this id.
    async fn shows(&self, id: &str) -> Result<bool, Fault> {
        match self.answered(|| self.request(Method::GET, &format!("{LEASES}/{id}"))).await {
            Ok(_) => Ok(true),
            Err(Refusal::Absent(_)) => Ok(false),
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Sends a request to release a lease; fails until the service has released it.
    async fn give_back(&self, lease: &LeaseId, make: impl Fn() -> RequestBuilder) -> Result<(), Fault> {
        let (status, json) = self.ask(make).await?;
        if status != StatusCode::ACCEPTED {
            return Ok(());
        }
        let why = json["fault"].as_str().unwrap_or("it takes long").chars().filter(|c| !c.is_control());
        let message = format!("the pool has not given {lease} back yet: {}", why.take(500).collect::<String>());
        let help = "the pool goes on trying; its operator finds the lease in GET /api/v1/vm-pool";
        Err(infrastructure("release", message, help))
    }

    /// Releases a lease by the service's own id; false if the service does not know it.
    async fn give_back_by_id(&self, lease: &LeaseId, id: &str) -> Result<bool, Fault> {
        let shown = self.shows(id).await;
        if matches!(shown, Ok(false)) {
            return Ok(false);
        }
        self.give_back(lease, || self.request(Method::DELETE, &format!("{LEASES}/{id}"))).await?;
        if self.shows(id).await? {
            let message = format!("the pool says that it gave {lease} back, and still shows it as {id}");
            let help = "see what stands between here and the pool; its operator finds the lease in GET /api/v1/vm-pool";
            return Err(infrastructure("release", message, help));
        }
        Ok(true)
    }

    /// Whether the pool lives. Any answer says so, and so does a refused connection: retries end with that.
    async fn greeted(&self) -> Result<(), ()> {
        match self.client.get(format!("{}/healthz", self.endpoint)).send().await {
            Err(error) if error.is_timeout() => Err(()),
            _ => Ok(()),
        }
    }

    async fn answer(&self, request: RequestBuilder) -> Result<(StatusCode, Value), Refusal> {
        let lost = |error: reqwest::Error| {
            // Without the URL: its query may hold private data.
            let message =
                format!("the pool at {} did not answer: {}", self.endpoint, with_causes(&error.without_url()));
            let help = "check whether the service runs and `providers.vm_pool.endpoint` is its address";
            Refusal::Passing(infrastructure("unreachable", message, help), None)
        };
        let response = request.send().await.map_err(lost)?;
        self.clock.heard(date(response.headers()));
        let status = response.status();
        let after = retry_after(response.headers()).map(|asked| asked.min(LONGEST_PAUSE));
        let body = read_body(response, API_ANSWER_BYTES).await.map_err(|error| match error {
            BodyError::Lost(error) => lost(error),
            BodyError::TooLong(_) => Refusal::Final(strange(&self.endpoint, &error.to_string())),
        })?;
        let json: Option<Value> = serde_json::from_slice(&body).ok();
        if status.is_success() {
            let nothing = status == StatusCode::NO_CONTENT;
            return match json {
                Some(json) => Ok((status, json)),
                None if nothing => Ok((status, Value::Null)),
                None => Err(Refusal::Final(strange(&self.endpoint, "no JSON"))),
            };
        }
        Err(refusal(status, &json.unwrap_or_default(), after))
    }

    async fn listed(&self) -> Result<Vec<OwnedLease>, Fault> {
        let (_, json) = self.ask(|| self.request(Method::GET, LEASES)).await?;
        let listed: Listed =
            serde_json::from_value(json).map_err(|error| strange(&self.endpoint, &error.to_string()))?;
        let own = listed.leases.into_iter().filter_map(|lease| {
            let what = format!(
                "{} {}{} of the pool at {}, {}",
                lease.runner_type.as_deref().unwrap_or("machine"),
                lease.lease_id,
                lease.address.map(|address| format!(" at {address}")).unwrap_or_default(),
                self.endpoint,
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
        time(text).map(|at| self.clock.here(RemoteTime(at)))
    }

    fn renewals(&self) -> std::sync::MutexGuard<'_, BTreeMap<LeaseId, Renewal>> {
        self.renewals.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Folder of a lease's key pair.
    fn folder(&self, lease: &LeaseId) -> Result<PathBuf, Fault> {
        let name = lease.as_str();
        let sound = !name.starts_with('.') && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
        if name.is_empty() || !sound {
            return Err(unavailable("lease", format!("`{name}` is not one of our leases"), "see `lian-build leases`"));
        }
        Ok(self.keys.join(name))
    }

    /// The stored request body of a lease; created on first use.
    async fn lease_request(&self, request: &AcquireRequest, folder: &Path) -> Result<LeaseRequest, Fault> {
        let kept = folder.join("request.json");
        match std::fs::read(&kept) {
            Ok(text) => {
                if let Ok(lease_request) = serde_json::from_slice(&text) {
                    return Ok(lease_request);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            // Another request under the same key would be refused, or pay for a second machine.
            Err(error) => return Err(unwritable(&kept, &error)),
        }
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| unwritable(folder, &error))?;
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
        write_whole(&kept, &text, 0o600).map_err(|error| unwritable(&kept, &error))?;
        Ok(lease_request)
    }
}

fn asked(client: &Client, token: Option<&PoolToken>, method: Method, address: &str) -> RequestBuilder {
    let request = client.request(method, address).timeout(ANSWER_BOUND);
    match token {
        Some(token) => request.header(AUTHORIZATION, token.0.clone()),
        None => request,
    }
}

fn public_half(identity: &Path) -> Result<String, Fault> {
    let mut public = identity.as_os_str().to_owned();
    public.push(".pub");
    std::fs::read_to_string(&public).map(|key| key.trim().to_owned()).map_err(|error| {
        let message = format!("{} cannot be read: {error}", Path::new(&public).display());
        unavailable("identity", message, "put the public half beside the private key: ssh-keygen -y -f KEY > KEY.pub")
    })
}

#[async_trait]
impl ComputeProvider for VmPool {
    async fn offers(&self) -> Result<Vec<Offer>, Fault> {
        let (_, json) = self.ask(|| self.request(Method::GET, "/api/v1/offers")).await?;
        let read = serde_json::from_value::<Offers>(json);
        read.map(|read| read.offers).map_err(|error| strange(&self.endpoint, &error.to_string()))
    }

    async fn acquire(&self, request: &AcquireRequest, record: &LeaseRecord) -> Result<Lease, Fault> {
        let (folder, expires) = (self.folder(&request.lease)?, Instant::now() + request.lifetime);
        let lease_request = self.lease_request(request, &folder).await?;
        let make = || {
            let post = self.request(Method::POST, LEASES).timeout(ACQUIRE_BOUND);
            post.header("Idempotency-Key", request.lease.as_str()).json(&lease_request)
        };
        let (_, json) = self.ask(make).await?;
        if let Some(id) = json["lease_id"].as_str() {
            record.learn(Resource::new(LEASE, id)).await;
        }
        let granted: Granted =
            serde_json::from_value(json).map_err(|error| strange(&self.endpoint, &error.to_string()))?;
        let Granted { lease_id, address, port, user, host_key, runner_type, cpu, memory_gb, platform } = granted;
        let own = || self.identity.clone().unwrap_or_else(|| folder.join("id"));
        let identity = request.authorized_key.is_none().then(own);
        if request.authorized_key.is_none() {
            let renewal = self.renewal(&lease_id, expires);
            self.renewals().insert(request.lease.clone(), renewal);
        }
        let endpoint = Endpoint::Ssh(SshTarget { address, port, user, host_key, identity });
        let offer = Offer { runner_type, cpu, memory_gb, platform: platform.into(), price: None };
        Ok(Lease { id: request.lease.clone(), offer, endpoint, ready_by: None })
    }

    /// If the service cannot release at once, it keeps trying; until it succeeds, this returns a failure. A lease that
    /// the service still shows after that is not gone, whatever it answered.
    async fn release(&self, lease: &LeaseId, record: &LeaseRecord) -> Result<Gone, Fault> {
        self.renewals().remove(lease);
        let folder = self.folder(lease)?;
        let mut end = Gone::Absent;
        for known in record.of(LEASE) {
            if self.give_back_by_id(lease, &known.id).await? {
                end = Gone::Deleted;
            }
        }
        // By our key too: a request that is still on its way must make nothing.
        let by_key = || self.request(Method::DELETE, LEASES).query(&[("idempotency_key", lease.as_str())]);
        self.give_back(lease, by_key).await?;
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(unwritable(&folder, &error)),
            _ => Ok(end),
        }
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
#[path = "tests.rs"]
mod tests;
