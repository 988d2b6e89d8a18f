//! Runners leased from a service (`lian-build serve`) over HTTP. Refuses: knowing what the service leases from; and losing
//! a lease: the service finds it by our own id for it, which it was asked with.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, RequestBuilder, StatusCode, Url};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::{Digest, LeaseId, Timestamp};
use crate::model::{Fault, FaultKind, Offer, VmPoolSettings};
use crate::ports::{AcquireRequest, ComputeProvider, Lease, OwnedLease, Reach, SshTarget};

/// The service waits that long for a machine, and somewhat for giving it back should that fail.
const ACQUIRE_BOUND: Duration = Duration::from_secs(30 * 60);
/// It answers everything else within a minute.
const ANSWER_BOUND: Duration = Duration::from_secs(90);
const CONNECT_BOUND: Duration = Duration::from_secs(10);
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How often a request is made that the service did not answer, or could not fulfil.
const TRIES: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A full pool is asked again for so long.
const QUOTA_PATIENCE: Duration = Duration::from_secs(15 * 60);

/// What is shown to the service. It is never printed.
#[derive(Clone)]
pub struct PoolToken(HeaderValue);

impl PoolToken {
    /// From a token's text.
    pub fn new(token: &str) -> Result<Self, Fault> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
            .map_err(|_| unavailable("token", "the pool's token holds characters that no token has", TOKEN_HELP))?;
        value.set_sensitive(true);
        Ok(Self(value))
    }

    /// From `LIAN_POOL_TOKEN`, or the file that `LIAN_POOL_TOKEN_FILE` names; none where neither is set.
    pub fn from_env() -> Result<Option<Self>, Fault> {
        let given = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(token) = given("LIAN_POOL_TOKEN") {
            return Self::new(&token.to_string_lossy()).map(Some);
        }
        let Some(file) = given("LIAN_POOL_TOKEN_FILE") else { return Ok(None) };
        let text = std::fs::read_to_string(&file).map_err(|error| {
            let message = format!("LIAN_POOL_TOKEN_FILE cannot be read: {error}");
            unavailable("token", message, "name a readable file with the token alone in it")
        })?;
        Self::new(&text).map(Some)
    }

    /// Tells this token from others, with a salt, without telling the token.
    pub fn digest(&self, salt: &str) -> Digest {
        Digest::of([salt.as_bytes(), self.0.as_bytes()].join(&b' '))
    }
}

impl std::fmt::Debug for PoolToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PoolToken(…)")
    }
}

const TOKEN_HELP: &str = "set LIAN_POOL_TOKEN, or name its file in LIAN_POOL_TOKEN_FILE";

/// A service that leases runners.
#[derive(Debug)]
pub struct VmPool {
    client: Client,
    endpoint: String,
    workspace: String,
    token: Option<PoolToken>,
    keys: PathBuf,
    identity: Option<PathBuf>,
    patience: Duration,
}

/// What is asked of the service; kept beside the key pair, so that a repeated request has the same words.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Wish {
    workspace: String,
    cpu: u32,
    memory_gb: u32,
    platform: String,
    ttl_s: u64,
    ssh_public_key: String,
}

#[derive(Debug, Deserialize)]
struct Granted {
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
    /// A service, and the folder (`<keys>/<lease>/`) in which the leases' key pairs are kept.
    pub fn new(settings: VmPoolSettings, token: Option<PoolToken>, keys: impl Into<PathBuf>) -> Result<Self, Fault> {
        let shown = &settings.endpoint;
        let address: Url = shown.parse().map_err(|error| {
            unavailable("endpoint", format!("`{shown}` is no address: {error}"), "write `https://host[:port]`")
        })?;
        let host = address.host_str().unwrap_or("").trim_matches(['[', ']']).to_owned();
        let local = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        if address.scheme() != "https" && token.is_some() && !local {
            let message = format!("the pool's token would travel in the clear to {shown}");
            return Err(unavailable("plain_http", message, "write `https://…` in `providers.vm_pool.endpoint`"));
        }
        // The second one of a process changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().connect_timeout(CONNECT_BOUND).redirect(reqwest::redirect::Policy::none());
        // A machine that boots for minutes must not look like a dead connection to what is in between.
        let client = client.tcp_keepalive(KEEPALIVE);
        let client = if local { client.no_proxy() } else { client };
        let client = client.build().map_err(|error| {
            unavailable(
                "client",
                format!("no HTTP client: {error}"),
                "see whether this machine's CA certificates are there",
            )
        })?;
        let (endpoint, workspace) = (shown.trim_end_matches('/').to_owned(), settings.workspace);
        Ok(Self { client, endpoint, workspace, token, keys: keys.into(), identity: None, patience: QUOTA_PATIENCE })
    }

    /// The same, with what the environment says: `LIAN_POOL_TOKEN`, `LIAN_POOL_TOKEN_FILE` and `LIAN_POOL_IDENTITY`.
    pub fn from_env(settings: VmPoolSettings, keys: impl Into<PathBuf>) -> Result<Self, Fault> {
        let identity = std::env::var_os("LIAN_POOL_IDENTITY").filter(|value| !value.is_empty());
        Ok(Self::new(settings, PoolToken::from_env()?, keys)?.identity(identity.map(PathBuf::from)))
    }

    /// Logs in with a private key that is there already, its public half beside it (`….pub`), rather than with a pair for
    /// each lease: for pools of fixed hosts, which authorise keys by themselves.
    #[must_use]
    pub fn identity(mut self, identity: Option<PathBuf>) -> Self {
        self.identity = identity;
        self
    }

    /// Asks a full pool again for another time than a quarter of an hour.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.endpoint)).timeout(ANSWER_BOUND);
        match &self.token {
            Some(token) => request.header(AUTHORIZATION, token.0.clone()),
            None => request,
        }
    }

    /// Makes a request until it is answered for good: with JSON, or with nothing.
    async fn ask(&self, make: impl Fn() -> RequestBuilder) -> Result<(StatusCode, Value), Fault> {
        let started = tokio::time::Instant::now();
        let (mut tries, mut pause) = (0, FIRST_PAUSE);
        loop {
            let (fault, after) = match self.answer(make()).await {
                Ok(answer) => return Ok(answer),
                Err(Refusal::Final(fault)) => return Err(fault),
                Err(Refusal::Full(fault, after)) if started.elapsed() + after <= self.patience => {
                    tracing::info!(seconds = after.as_secs(), "the pool is full");
                    (fault, Some(after))
                }
                Err(Refusal::Full(fault, _)) => return Err(fault),
                Err(Refusal::Passing(fault, after)) => {
                    tries += 1;
                    (fault, after)
                }
            };
            if tries >= TRIES {
                return Err(fault);
            }
            tokio::time::sleep(after.unwrap_or(pause).max(FIRST_PAUSE)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn answer(&self, request: RequestBuilder) -> Result<(StatusCode, Value), Refusal> {
        let lost = |error: reqwest::Error| {
            // Without the address: a query may hold what is nobody's business.
            let message = format!("the pool at {} did not answer: {}", self.endpoint, chain(&error.without_url()));
            let help = "see whether the service runs and `providers.vm_pool.endpoint` is its address";
            Refusal::Passing(infrastructure("unreachable", message, help), None)
        };
        let response = request.send().await.map_err(lost)?;
        let status = response.status();
        let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let after = after.map(|seconds: u64| Duration::from_secs(seconds).min(LONGEST_PAUSE));
        let body = response.bytes().await.map_err(lost)?;
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

    /// The key pair's folder of a lease.
    fn folder(&self, lease: &LeaseId) -> Result<PathBuf, Fault> {
        let name = lease.as_str();
        let sound = !name.starts_with('.') && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
        if name.is_empty() || !sound {
            return Err(unavailable("lease", format!("`{name}` is no lease of ours"), "see `lian-build leases`"));
        }
        Ok(self.keys.join(name))
    }

    /// What is asked of the service: the same words each time.
    async fn wish(&self, request: &AcquireRequest, folder: &Path) -> Result<Wish, Fault> {
        let kept = folder.join("request.json");
        if let Some(wish) = std::fs::read(&kept).ok().and_then(|text| serde_json::from_slice(&text).ok()) {
            return Ok(wish);
        }
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| unwritable(folder, &error))?;
        let ssh_public_key = match (&request.authorized_key, &self.identity) {
            (Some(key), _) => key.clone(),
            (None, Some(identity)) => public_half(identity)?,
            (None, None) => key_pair(folder).await?,
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let ttl = Duration::from_millis(request.expires.0).saturating_sub(now);
        let wish = Wish {
            workspace: self.workspace.clone(),
            cpu: request.size.cpu,
            memory_gb: request.size.memory_gb,
            platform: request.platform.clone(),
            ttl_s: ttl.as_secs().max(60),
            ssh_public_key,
        };
        let text = serde_json::to_vec(&wish).expect("invariant: a wish is plain data");
        // Whole or not at all: a half one would be another wish.
        let draft = folder.join("request.json.new");
        let written = std::fs::write(&draft, text).and_then(|()| std::fs::rename(&draft, &kept));
        written.map_err(|error| unwritable(&kept, &error))?;
        Ok(wish)
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

/// Makes a key pair that only this user reads, and gives the public half.
async fn key_pair(folder: &Path) -> Result<String, Fault> {
    let private = folder.join("id");
    let public = folder.join("id.pub");
    if !public.exists() {
        let mut command = tokio::process::Command::new("ssh-keygen");
        command.args(["-q", "-t", "ed25519", "-N", "", "-C", "lian-build", "-f"]).arg(&private);
        command.stdin(std::process::Stdio::null()).kill_on_drop(true);
        let output = command.output().await;
        let failed = match output {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(why) = failed {
            let message = format!("ssh-keygen made no key pair: {why}");
            return Err(unavailable("ssh_keygen", message, "install OpenSSH's client programs"));
        }
    }
    let text = std::fs::read_to_string(&public).map_err(|error| unwritable(&public, &error))?;
    Ok(text.trim().to_owned())
}

/// Why a request was not fulfilled.
enum Refusal {
    /// Trying again would not help.
    Final(Fault),
    /// The quota is used up.
    Full(Fault, Duration),
    /// Trying again may help, after a while that the service may name.
    Passing(Fault, Option<Duration>),
}

fn refusal(status: StatusCode, body: &Value, after: Option<Duration>) -> Refusal {
    let said = |field: &str| {
        let text = body["error"][field].as_str().unwrap_or("");
        text.chars().filter(|c| !c.is_control()).take(500).collect::<String>()
    };
    let message = match (said("message"), said("code")) {
        (message, _) if message.is_empty() => format!("the pool answered {status}"),
        (message, code) => format!("the pool answered {}: {message} ({code})", status.as_u16()),
    };
    let or = |help: &str| if said("help").is_empty() { help.to_owned() } else { said("help") };
    let operator = "ask the pool's operator";
    match status {
        StatusCode::UNAUTHORIZED => Refusal::Final(unavailable("unauthorized", message, TOKEN_HELP)),
        StatusCode::FORBIDDEN => Refusal::Final(unavailable("forbidden", message, or(operator))),
        StatusCode::TOO_MANY_REQUESTS => {
            let fault = infrastructure("quota", message, or("give leases back, or raise the pool's --max-leases"));
            Refusal::Full(fault, after.unwrap_or(Duration::from_secs(15)))
        }
        StatusCode::NOT_IMPLEMENTED => Refusal::Final(unavailable("refused", message, or(operator))),
        StatusCode::REQUEST_TIMEOUT => Refusal::Passing(infrastructure("pool", message, or(operator)), after),
        status if status.is_server_error() => Refusal::Passing(infrastructure("pool", message, or(operator)), after),
        _ => Refusal::Final(unavailable("refused", message, or(operator))),
    }
}

fn unavailable(cause: &str, message: impl Into<String>, help: impl Into<String>) -> Fault {
    Fault::new(FaultKind::Unavailable, &format!("lian::vm_pool::{cause}"), message).help(help)
}

fn infrastructure(cause: &str, message: impl Into<String>, help: impl Into<String>) -> Fault {
    Fault::new(FaultKind::Infrastructure, &format!("lian::vm_pool::{cause}"), message).help(help)
}

fn strange(endpoint: &str, what: &str) -> Fault {
    let help = "see whether `providers.vm_pool.endpoint` is the address of a `lian-build serve` of this version";
    unavailable("answer", format!("the service at {endpoint} answers what no pool does: {what}"), help)
}

fn unwritable(path: &Path, error: &std::io::Error) -> Fault {
    let message = format!("{} cannot be used: {error}", path.display());
    unavailable("keys", message, "make lian-build's data folder writable, or set LIAN_DATA_DIR to another one")
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[async_trait]
impl ComputeProvider for VmPool {
    async fn offers(&self) -> Result<Vec<Offer>, Fault> {
        let (_, json) = self.ask(|| self.request(Method::GET, "/api/v1/offers")).await?;
        let read = serde_json::from_value::<Offers>(json);
        read.map(|read| read.offers).map_err(|error| strange(&self.endpoint, &error.to_string()))
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<Lease, Fault> {
        let folder = self.folder(&request.lease)?;
        let wish = self.wish(request, &folder).await?;
        let make = || {
            let post = self.request(Method::POST, "/api/v1/vm-pool").timeout(ACQUIRE_BOUND);
            post.header("Idempotency-Key", request.lease.as_str()).json(&wish)
        };
        let (_, json) = self.ask(make).await?;
        let granted: Granted =
            serde_json::from_value(json).map_err(|error| strange(&self.endpoint, &error.to_string()))?;
        let Granted { address, port, user, host_key, runner_type, cpu, memory_gb, platform } = granted;
        let own = || self.identity.clone().unwrap_or_else(|| folder.join("id"));
        let identity = request.authorized_key.is_none().then(own);
        let reach = Reach::Ssh(SshTarget { address, port, user, host_key, identity });
        let offer = Offer { runner_type, cpu, memory_gb, platform, price: None };
        Ok(Lease { id: request.lease.clone(), offer, reach, ready_by: None })
    }

    /// The service goes on by itself with what it cannot give back at once; until it has, the lease is not given back.
    async fn release(&self, lease: &LeaseId) -> Result<(), Fault> {
        let folder = self.folder(lease)?;
        let make = || {
            let delete = self.request(Method::DELETE, "/api/v1/vm-pool");
            delete.query(&[("idempotency_key", lease.as_str())])
        };
        let (status, json) = self.ask(make).await?;
        if status == StatusCode::ACCEPTED {
            let why = json["fault"].as_str().unwrap_or("it takes long").chars().filter(|c| !c.is_control());
            let message = format!("the pool has not given {lease} back yet: {}", why.take(500).collect::<String>());
            let help = "the pool goes on trying; its operator finds the lease in GET /api/v1/vm-pool";
            return Err(infrastructure("release", message, help));
        }
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(unwritable(&folder, &error)),
            _ => Ok(()),
        }
    }

    /// Those that were asked for with this token.
    async fn owned(&self) -> Result<Vec<OwnedLease>, Fault> {
        let (_, json) = self.ask(|| self.request(Method::GET, "/api/v1/vm-pool")).await?;
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
                created: time(&lease.created_at),
                expires: time(&lease.expires_at),
            })
        });
        Ok(own.collect())
    }
}

fn time(text: &str) -> Option<Timestamp> {
    let at = text.parse::<jiff::Timestamp>().ok()?.as_millisecond();
    u64::try_from(at).ok().map(Timestamp)
}

#[cfg(test)]
#[path = "vm_pool_tests.rs"]
mod tests;
