//! The pool service as it is asked over HTTP: with its token, again where that may help, and not for longer than it
//! lives. Not responsible for: what a response means (see `answers`), leases (see `client`).

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::AUTHORIZATION;
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde_json::Value;
use tokio::time::Instant;

use super::answers::{Refusal, SERVICE_HELP, configuration, infrastructure, refusal, silent, strange, unavailable};
use super::token::PoolToken;
use crate::domain::base::LeaseId;
use crate::domain::model::Fault;
use crate::system::RemoteClock;
use crate::system::error_chain::with_causes;
use crate::system::http::{API_ANSWER_BYTES, client_for, date, is_loopback, retry_after};
use crate::system::peer::{Answer, Lost, Peer};
use crate::system::retry::{Backoff, Retry, retry, within};
use crate::system::watch::{self, SignsOfLife, until_silent};

/// How long an answer may take to begin, where nothing else is said; the service answers within a minute.
const ANSWER_BOUND: Duration = Duration::from_secs(90);
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Longest pause between retries, even if the service asks for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long a pool is asked again that is too busy to answer questions.
const BUSY_PATIENCE: Duration = Duration::from_secs(60);
/// Retry schedule for requests that got no response or a temporary failure.
const AGAIN: Backoff = Backoff::of_requests(Duration::from_millis(250), LONGEST_PAUSE, 7);
/// How long to retry while the quota is used up.
const QUOTA_PATIENCE: Duration = Duration::from_secs(15 * 60);

/// The path of all leases.
pub const LEASES: &str = "/api/v1/vm-pool";

/// A pool service.
#[derive(Debug, Clone)]
pub struct Service {
    peer: Peer,
    /// Its address as the settings say it, for messages.
    pub endpoint: String,
    /// What the paths of requests are put after.
    base: String,
    token: Option<PoolToken>,
    /// How long to retry while the quota is used up.
    pub patience: Duration,
    /// Its clock, in which its times stand.
    pub clock: Arc<RemoteClock>,
}

impl Service {
    /// The service at this address.
    pub fn new(shown: &str, token: Option<PoolToken>) -> Result<Self, Fault> {
        let socket = shown.strip_prefix("unix:");
        // Requests on a socket file need a host, which leads nowhere.
        let base = if socket.is_some() { "http://localhost" } else { shown.trim_end_matches('/') };
        let address: Url = base.parse().map_err(|error| {
            let message = format!("`{shown}` is not an address: {error}");
            configuration("endpoint", message, "write `https://host[:port]`, or `unix:/path`")
        })?;
        if address.scheme() != "https" && token.is_some() && !is_loopback(&address) {
            let message = format!("the pool's token would be sent unencrypted to {shown}");
            return Err(configuration("plain_http", message, "write `https://…` in `providers.vm_pool.endpoint`"));
        }
        // Keepalive: proxies in between must not drop the connection while a machine boots for minutes.
        let client = client_for(&address).tcp_keepalive(KEEPALIVE);
        let client = match socket {
            Some(path) => client.unix_socket(path),
            None => client,
        };
        let client = client.build().map_err(|error| {
            unavailable(
                "client",
                format!("cannot create an HTTP client: {error}"),
                "check whether this machine's CA certificates are there",
            )
        })?;
        let (endpoint, base) = (shown.trim_end_matches('/').to_owned(), base.to_owned());
        Ok(Self { peer: Peer::new(client), endpoint, base, token, patience: QUOTA_PATIENCE, clock: Arc::default() })
    }

    /// A request with the token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.peer.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.header(AUTHORIZATION, token.0.clone()),
            None => request,
        }
    }

    /// Sends a request and retries until the response is final; the body is JSON or empty.
    pub async fn ask(&self, make: impl Fn() -> RequestBuilder) -> Result<(StatusCode, Value), Fault> {
        self.ask_for(ANSWER_BOUND, make).await
    }

    /// As [`Self::ask`], with how long the answer may take to begin.
    pub async fn ask_for(
        &self,
        begins: Duration,
        make: impl Fn() -> RequestBuilder,
    ) -> Result<(StatusCode, Value), Fault> {
        self.answered(begins, make).await.map_err(Fault::from)
    }

    /// Sends a request once.
    pub async fn ask_once(&self, request: RequestBuilder) -> Result<StatusCode, Lost> {
        Ok(self.peer.ask_watched(request, ANSWER_BOUND, API_ANSWER_BYTES).await?.status)
    }

    /// As [`Self::ask_for`], with how the service refused.
    async fn answered(
        &self,
        begins: Duration,
        make: impl Fn() -> RequestBuilder,
    ) -> Result<(StatusCode, Value), Refusal> {
        let (started, mut failures) = (Instant::now(), 0);
        // Only who waits for a machine waits until others give theirs back.
        let patience = if begins > ANSWER_BOUND { self.patience } else { self.patience.min(BUSY_PATIENCE) };
        let judge = |refusal: &Refusal| match refusal {
            Refusal::Full(_, after) if started.elapsed() + *after <= patience => {
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
            Refusal::Silent(_, retry) => *retry,
        };
        if self.peer.is_silent() && self.greeted().await.is_err() {
            return Err(silent(&self.endpoint, Retry::Never));
        }
        // A request may take minutes, while a machine boots. The pool itself answers at once as long as it lives.
        let signs = SignsOfLife::default();
        tokio::select! {
            biased;
            answer = retry(AGAIN.pauses(), || self.answer(make(), begins), judge) => answer,
            _ = until_silent(&signs, || self.greeted()) => {
                self.peer.gave_up();
                Err(silent(&self.endpoint, Retry::Never))
            }
        }
    }

    /// Whether the service shows a lease of this id.
    async fn shows(&self, id: &str) -> Result<bool, Fault> {
        match self.answered(ANSWER_BOUND, || self.request(Method::GET, &format!("{LEASES}/{id}"))).await {
            Ok(_) => Ok(true),
            Err(Refusal::Absent(_)) => Ok(false),
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Sends a request to release a lease; fails until the service has released it.
    pub async fn give_back(&self, lease: &LeaseId, make: impl Fn() -> RequestBuilder) -> Result<(), Fault> {
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
    pub async fn give_back_by_id(&self, lease: &LeaseId, id: &str) -> Result<bool, Fault> {
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
        let question = self.peer.request(Method::GET, format!("{}/healthz", self.base));
        match self.peer.ask(question, watch::ANSWER, API_ANSWER_BYTES).await {
            Err(lost) if lost.is_silence() => Err(()),
            _ => Ok(()),
        }
    }

    async fn answer(&self, request: RequestBuilder, begins: Duration) -> Result<(StatusCode, Value), Refusal> {
        let lost = |lost: Lost| match lost {
            Lost::Silent { .. } | Lost::Slow => silent(&self.endpoint, lost.retry()),
            Lost::TooLong(_) => Refusal::Final(strange(&self.endpoint, &lost.to_string())),
            Lost::Broken(_) => {
                let message = format!("the pool at {} did not answer: {}", self.endpoint, with_causes(&lost));
                Refusal::Passing(infrastructure("unreachable", message, SERVICE_HELP), None)
            }
        };
        let answered = self.peer.ask_watched(request, begins, API_ANSWER_BYTES).await;
        let Answer { status, headers, body, .. } = answered.map_err(lost)?;
        self.clock.heard(date(&headers));
        let after = retry_after(&headers).map(|asked| within(asked, LONGEST_PAUSE));
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
}
