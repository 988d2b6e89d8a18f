//! Sends API requests and decides when to repeat them. Not responsible for: what servers are used for.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use super::access::Access;
use super::error::ApiError;
use crate::domain::base::{Timestamp, human_bytes, human_duration};
use crate::domain::model::{Fault, FaultKind};
use crate::system::RemoteClock;
use crate::system::error_chain::innermost;
use crate::system::http::{API_ANSWER_BYTES, client_for, date, retry_after};
use crate::system::peer::{Answer, Lost, Peer, SILENCE};
use crate::system::retry::{Backoff, Pauses, Retry};

/// Maximum retries of a request whose response was lost or that failed inside the API.
const RETRIES: u32 = 6;

/// The most pages of a list, and objects on a page.
const PAGES: u32 = 400;
const PER_PAGE: &str = "50";
/// The most bytes of all pages of a list: 20,000 objects with all that is known of them.
const LIST_BYTES: usize = 64 * 1024 * 1024;

/// Time limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From the request until the server runs.
    pub boot: Duration,
    /// For all other operations: releasing, listing.
    pub settle: Duration,
    /// How long lists may lag behind creations.
    pub lag: Duration,
    /// For the response to one request; at most [`SILENCE`].
    pub request: Duration,
    /// The first pause before a retry; each further one is twice as long.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Timeouts {
    /// Values for the real API, with this boot timeout.
    pub fn with_boot(boot: Duration) -> Self {
        let seconds = Duration::from_secs;
        let (settle, lag, request) = (seconds(120), seconds(10), SILENCE);
        Self { boot, settle, lag, request, first: Duration::from_millis(500), longest: seconds(8) }
    }
}

/// The API's client.
#[derive(Debug)]
pub(super) struct Api {
    peer: Peer,
    access: Access,
    pace: Timeouts,
    clock: RemoteClock,
}

impl Api {
    pub(super) fn new(access: Access, pace: Timeouts) -> Result<Self, Fault> {
        let client = client_for(access.address()).build().map_err(|error| {
            let message = format!("cannot create an HTTP client for Hetzner Cloud: {}", innermost(&error));
            Fault::new(FaultKind::Unavailable, "lian::hcloud::client", message)
                .help("check the system's certificates (SSL_CERT_FILE) and proxy settings")
        })?;
        let peer = Peer::new(client).silence(pace.request);
        Ok(Self { peer, access, pace, clock: RemoteClock::default() })
    }

    pub(super) fn pace(&self) -> &Timeouts {
        &self.pace
    }

    /// The API's clock, in which expiries stand.
    pub(super) fn clock(&self) -> &RemoteClock {
        &self.clock
    }

    /// Sends one request.
    pub(super) async fn once(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value, ApiError> {
        let mut request = self.request(method, path, query);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.answer(request).await.map(|(answer, _)| answer)
    }

    /// The answer to a request, and how many bytes it had.
    async fn answer(&self, request: RequestBuilder) -> Result<(Value, usize), ApiError> {
        let Answer { status, headers, body, .. } =
            self.peer.ask(request, self.pace.request, API_ANSWER_BYTES).await.map_err(lost)?;
        self.clock.heard(date(&headers));
        if !status.is_success() {
            return Err(ApiError::from_answer(status.as_u16(), &body, self.wait(status, &headers)));
        }
        if body.is_empty() {
            return Ok((Value::Null, 0));
        }
        let read = serde_json::from_slice(&body);
        let read = read.map_err(|error| ApiError::Lost(format!("its answer could not be parsed: {error}")))?;
        Ok((read, body.len()))
    }

    fn request(&self, method: Method, path: &str, query: &[(&str, &str)]) -> RequestBuilder {
        let address = format!("{}{path}", self.access.endpoint());
        self.peer.request(method, address).bearer_auth(self.access.token()).query(query)
    }

    /// Sends a request and retries until there is a final response. Only for repeatable requests.
    pub(super) async fn patiently(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Value, ApiError> {
        self.retried(self.deadline(), || self.request(method.clone(), path, query)).await.map(|(answer, _)| answer)
    }

    /// When a repeatable request, or a list, is given up whose refusals always pass: later than a whole operation, which
    /// says what it was.
    fn deadline(&self) -> Instant {
        Instant::now() + self.pace.settle + 2 * self.pace.longest
    }

    async fn retried(&self, until: Instant, make: impl Fn() -> RequestBuilder) -> Result<(Value, usize), ApiError> {
        let mut pauses = self.pauses().until(until);
        loop {
            match self.answer(make()).await {
                Err(error) => pauses.after(error).await?,
                answer => return answer,
            }
        }
    }

    /// The object at a path, under its key; `None` if it does not exist.
    pub(super) async fn find<T: DeserializeOwned>(&self, path: &str, key: &str) -> Result<Option<T>, ApiError> {
        match self.patiently(Method::GET, path, &[]).await {
            Ok(mut answer) => parse(answer[key].take()).map(Some),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes the object at a path; false if it does not exist.
    pub(super) async fn delete(&self, path: &str) -> Result<bool, ApiError> {
        match self.patiently(Method::DELETE, path, &[]).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// All objects of one kind (`servers`) that match a query, from all pages.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        kind: &str,
        query: &[(&str, &str)],
    ) -> Result<Vec<T>, ApiError> {
        let (mut all, mut page, mut bytes, until) = (Vec::new(), 1, 0, self.deadline());
        // Half a list is none: what it does not show would count as gone.
        let endless = |after: String| Err(ApiError::Lost(format!("its list of {kind} does not end after {after}")));
        for _ in 0..PAGES {
            let number = page.to_string();
            let mut query = query.to_vec();
            query.extend([("page", number.as_str()), ("per_page", PER_PAGE)]);
            let make = || self.request(Method::GET, &format!("/{kind}"), &query);
            let (mut answer, length) = self.retried(until, make).await?;
            bytes += length;
            if bytes > LIST_BYTES {
                return endless(human_bytes(LIST_BYTES as u64));
            }
            all.extend(parse::<Vec<T>>(answer[kind].take())?);
            match answer["meta"]["pagination"]["next_page"].as_u64() {
                Some(next) if next > page => page = next,
                _ => return Ok(all),
            }
            if Instant::now() >= until {
                return endless(human_duration(self.pace.settle));
            }
        }
        endless(format!("{PAGES} pages"))
    }

    /// Retry pauses of one request.
    pub(super) fn pauses(&self) -> RequestPauses {
        RequestPauses(Backoff::of_requests(self.pace.first, self.pace.longest, RETRIES).pauses())
    }

    /// Pauses between polls of a slow operation; short, because the server is already billed.
    pub(super) fn polls(&self) -> Pauses {
        Backoff::of_polls(self.pace.first, self.pace.longest / 4).pauses()
    }

    /// The delay that the API asks for. `RateLimit-Reset` is when the whole hourly budget is restored, but one
    /// request is restored each second: treat it as an upper bound.
    fn wait(&self, status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
        if let Some(asked) = retry_after(headers) {
            return Some(asked);
        }
        let reset = headers.get("ratelimit-reset").filter(|_| status == StatusCode::TOO_MANY_REQUESTS)?;
        let reset = reset.to_str().ok()?.trim().parse().ok()?;
        let left = Timestamp(0).plus(Duration::from_secs(reset)).since(self.clock.now().0);
        Some(left.min(self.pace.longest))
    }
}

/// Deserializes a response.
pub(super) fn parse<T: DeserializeOwned>(value: Value) -> Result<T, ApiError> {
    serde_json::from_value(value).map_err(|error| ApiError::Lost(format!("its answer could not be parsed: {error}")))
}

/// Retry pauses of one request.
pub(super) struct RequestPauses(Pauses);

impl RequestPauses {
    /// The same with a deadline.
    fn until(self, deadline: Instant) -> Self {
        Self(self.0.until(deadline))
    }

    /// Waits as long as this error requires, or returns it if a retry is useless.
    pub(super) async fn after(&mut self, error: ApiError) -> Result<(), ApiError> {
        let retry = error.retry();
        // Warn once, and only if the retries will take a while.
        if matches!(retry, Retry::Counted(_)) && self.0.counted() == 1 {
            tracing::warn!("Hetzner Cloud does not answer as it should: {error}; asking again");
        }
        if !self.0.wait(retry).await {
            return Err(error);
        }
        tracing::debug!(%error, "asking Hetzner Cloud again");
        Ok(())
    }
}

fn lost(lost: Lost) -> ApiError {
    match lost {
        Lost::Silent { .. } | Lost::Slow => ApiError::Silent(lost.retry()),
        lost => ApiError::Lost(innermost(&lost)),
    }
}
