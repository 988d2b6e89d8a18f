//! Shared by the service's tests: a provider that tracks its machines, and a service that can be killed.
//! Not responsible for: tolerating faults (creating a lease twice panics).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, oneshot};

use super::pool::Pool;
use super::{Bounds, Listen, Service, Tokens, hash_token, listen};
use crate::domain::base::{LeaseId, Timestamp};
use crate::domain::model::{Fault, FaultKind, Offer};
use crate::domain::ports::{
    AcquireRequest, ComputeProvider, Endpoint, Gone, Lease, LeaseRecord, OwnedLeases, Resource, SshTarget,
};

/// A valid SSH public key.
pub const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDp7sGbCyGzzN4GSkM2UqUk9DZEhgtO0RZ6oQ3gmOyPb";
/// A valid token.
pub const TOKEN: &str = "a-token-of-the-tests-0";

/// A provider that only records its machines.
pub struct Stub {
    /// Machines that exist now.
    pub made: Mutex<BTreeMap<LeaseId, AcquireRequest>>,
    /// Number of machines created in total.
    pub makes: AtomicUsize,
    /// Permits for acquire calls; without one, a call blocks after its machine was recorded.
    pub gate: Semaphore,
    /// Number of release calls that will fail.
    pub stubborn: AtomicUsize,
    /// Number of release calls.
    pub releases: AtomicUsize,
    /// Whether release calls never end.
    pub hangs: AtomicBool,
    /// What each release call knew.
    pub asked: Mutex<Vec<Vec<Resource>>>,
    /// Fault of the next acquire call.
    pub fault: Mutex<Option<Fault>>,
    /// Whether machines are this machine, without SSH.
    pub here: AtomicBool,
}

impl Stub {
    /// Grants at once.
    pub fn new() -> Arc<Self> {
        Self::with_gate(Semaphore::MAX_PERMITS)
    }

    /// Grants this many machines, then blocks.
    pub fn with_gate(open: usize) -> Arc<Self> {
        Arc::new(Self {
            made: Mutex::default(),
            makes: AtomicUsize::new(0),
            gate: Semaphore::new(open),
            stubborn: AtomicUsize::new(0),
            releases: AtomicUsize::new(0),
            hangs: AtomicBool::new(false),
            asked: Mutex::default(),
            fault: Mutex::default(),
            here: AtomicBool::new(false),
        })
    }

    /// Number of machines that exist now.
    pub fn living(&self) -> usize {
        self.made.lock().expect("sound").len()
    }
}

/// The only offer.
pub fn offer() -> Offer {
    Offer { runner_type: "stub4".into(), cpu: 4, memory_gb: 8, platform: "linux/amd64".into(), price: None }
}

#[async_trait]
impl ComputeProvider for Stub {
    async fn offers(&self) -> Result<Vec<Offer>, Fault> {
        Ok(vec![offer()])
    }

    async fn acquire(&self, request: &AcquireRequest, record: &LeaseRecord) -> Result<Lease, Fault> {
        let before = self.made.lock().expect("sound").insert(request.lease.clone(), request.clone());
        assert!(before.is_none(), "{} was made twice", request.lease);
        let number = self.makes.fetch_add(1, Ordering::SeqCst) + 1;
        record.learn(Resource::new("machine", number)).await;
        self.gate.acquire().await.expect("open").forget();
        if let Some(fault) = self.fault.lock().expect("sound").take() {
            return Err(fault);
        }
        let target = SshTarget {
            address: "192.0.2.7".into(),
            port: 2222,
            user: "root".into(),
            host_key: "ssh-ed25519 AAAAhost".into(),
            identity: Some("/secret/id".into()),
            is_configured: false,
        };
        let here = self.here.load(Ordering::SeqCst);
        let endpoint = if here { Endpoint::Here } else { Endpoint::Ssh(target) };
        Ok(Lease { id: request.lease.clone(), offer: offer(), endpoint, ready_by: None })
    }

    async fn release(&self, lease: &LeaseId, record: &LeaseRecord) -> Result<Gone, Fault> {
        self.releases.fetch_add(1, Ordering::SeqCst);
        self.asked.lock().expect("sound").push(record.known());
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let stubborn =
            self.stubborn.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if stubborn {
            return Err(Fault::new(FaultKind::Infrastructure, "lian::stub::stubborn", "not now"));
        }
        let made = self.made.lock().expect("sound").remove(lease);
        Ok(if made.is_some() { Gone::Deleted } else { Gone::Absent })
    }

    async fn owned(&self) -> OwnedLeases {
        OwnedLeases::default()
    }
}

/// A service in its own runtime, so that a killed one stops completely: on loopback with tokens, else on a socket file.
pub struct Running {
    runtime: Option<Runtime>,
    stop: Option<oneshot::Sender<()>>,
    /// The address of its paths.
    pub base: String,
    /// Where clients find it, as a workflow says it.
    pub endpoint: String,
    /// Clock of the service, in milliseconds.
    pub clock: Arc<AtomicU64>,
    /// Reaches it.
    pub client: Client,
    /// What it serves, as long as it lives.
    pub(super) pool: Weak<Pool>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Limits that no test reaches by accident.
pub fn bounds() -> Bounds {
    Bounds {
        max_leases: 10,
        max_leases_per_workspace: 0,
        max_leases_per_token: 0,
        max_ttl_s: 3600,
        sweep: Duration::from_millis(10),
    }
}

/// Tokens as read from a file: name, token and workspaces.
pub fn tokens(entries: &[(&str, &str, &[&str])]) -> Tokens {
    let hash = |token: &str| hash_token(token).expect("long enough");
    let entry = |(name, token, workspaces): &(&str, &str, &[&str])| json!({ "name": name, "sha256": hash(token), "workspaces": workspaces });
    let entries: Vec<Value> = entries.iter().map(entry).collect();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), json!({ "tokens": entries }).to_string()).expect("writable");
    Tokens::read(file.path()).expect("sound")
}

impl Running {
    /// Starts a service without tokens.
    pub async fn start(provider: Arc<dyn ComputeProvider>, data: &Path) -> Self {
        Self::with(provider, data, Tokens::default(), bounds()).await
    }

    /// Starts a service; waits for the lock if a killed service still holds it.
    pub async fn with(provider: Arc<dyn ComputeProvider>, data: &Path, tokens: Tokens, bounds: Bounds) -> Self {
        crate::system::http::install_tls();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let clock = Arc::new(AtomicU64::new(1_800_000_000_000));
        let (time, data) = (Arc::clone(&clock), data.to_owned());
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = oneshot::channel();
        runtime.spawn(async move {
            let place =
                if tokens.is_empty() { format!("unix:{}/pool.sock", data.display()) } else { "127.0.0.1:0".to_owned() };
            let place = place.parse().expect("a place");
            let deadline = std::time::Instant::now() + Duration::from_secs(20);
            let (service, listener) = loop {
                let time = Arc::clone(&time);
                let clock = Arc::new(move || Timestamp(time.load(Ordering::SeqCst)));
                let opened = async {
                    let service =
                        Service::open_with_clock(Arc::clone(&provider), &data, tokens.clone(), bounds, clock).await?;
                    Ok::<_, super::ServeError>((service, listen(&place, &tokens).await?))
                };
                match opened.await {
                    Ok(opened) => break opened,
                    Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
                }
                tokio::task::yield_now().await;
            };
            let place = listener.place().expect("a place");
            assert!(ready.send((place, Arc::downgrade(&service.pool()))).is_ok(), "waited for");
            service.run(listener, async move { drop(stopped.await) }).await.expect("it ends well");
        });
        let client = Client::builder().no_proxy();
        let (place, pool) = started.await.expect("it starts");
        let endpoint = place.to_string();
        let (base, client) = match place {
            Listen::Unix(path) => ("http://pool".to_owned(), client.unix_socket(path)),
            Listen::Tcp(_) => (endpoint.clone(), client),
        };
        let client = client.build().expect("a client");
        Self { runtime: Some(runtime), stop: Some(stop), base, endpoint, clock, client, pool }
    }

    /// Ends it as SIGKILL would: no cleanup runs.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Requests a graceful shutdown.
    pub fn stop(&mut self) {
        let _ = self.stop.take().expect("once").send(());
    }

    /// Advances the service's clock, in seconds.
    pub fn later(&self, seconds: u64) {
        self.clock.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    /// Sends a request. An empty token or key is left out.
    pub async fn ask(&self, method: Method, path: &str, token: &str, key: &str, body: Option<&Value>) -> Response {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if !key.is_empty() {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        request.send().await.expect("an answer")
    }

    /// Status and JSON of a request without a token.
    pub async fn json(&self, method: Method, path: &str, key: &str, body: Option<&Value>) -> (u16, Value) {
        read(self.ask(method, path, "", key, body).await).await
    }

    /// Requests a lease with a key.
    pub async fn lease(&self, key: &str, body: &Value) -> (u16, Value) {
        self.json(Method::POST, "/api/v1/vm-pool", key, Some(body)).await
    }

    /// All listed leases.
    pub async fn leases(&self) -> Vec<Value> {
        let (_, json) = self.json(Method::GET, "/api/v1/vm-pool", "", None).await;
        json["leases"].as_array().expect("leases").clone()
    }
}

/// Status and JSON of a response.
pub async fn read(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let bytes = response.bytes().await.expect("a body");
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

/// A valid lease request.
pub fn lease_request(workspace: &str) -> Value {
    let (platform, ttl_s) = ("linux/amd64", 600);
    json!({ "workspace": workspace, "cpu": 2, "memory_gb": 4, "platform": platform, "ttl_s": ttl_s, "ssh_public_key": KEY })
}

/// Returns a check that panics if the condition does not hold within 20 s.
#[track_caller]
pub fn eventually(what: &str) -> impl FnMut(bool) -> bool {
    let started = std::time::Instant::now();
    let what = what.to_owned();
    move |so| {
        assert!(so || started.elapsed() < Duration::from_secs(20), "{what}: it never came to be");
        so
    }
}
