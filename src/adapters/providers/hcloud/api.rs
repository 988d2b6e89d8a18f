//! One request, its answer, and when it is asked again. Not responsible for: knowing what servers are for.

use std::hash::{BuildHasher as _, Hasher as _};
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::access::Access;
use super::error::{ApiError, Patience};
use crate::domain::model::{Fault, FaultKind};
use crate::system::error_chain::innermost;
use crate::system::since_epoch;

/// So often a request is repeated whose answer was lost, or that failed inside the API.
const REPEATS: u32 = 6;

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From the wish to the running server.
    pub boot: Duration,
    /// For everything else: taking a lease back, listing.
    pub settle: Duration,
    /// One request's answer.
    pub request: Duration,
    /// The first pause before asking again; each further one is twice as long.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Timeouts {
    /// What suits the real API, with this bound on booting.
    pub fn with_boot(boot: Duration) -> Self {
        let seconds = Duration::from_secs;
        let (settle, request) = (seconds(120), seconds(30));
        Self { boot, settle, request, first: Duration::from_millis(500), longest: seconds(8) }
    }
}

/// The API's client.
#[derive(Debug)]
pub(super) struct Api {
    client: reqwest::Client,
    access: Access,
    pace: Timeouts,
}

impl Api {
    pub(super) fn new(access: Access, pace: Timeouts) -> Result<Self, Fault> {
        // Whoever was first has installed one; it is the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .timeout(pace.request)
            .connect_timeout(pace.request.min(Duration::from_secs(10)))
            // The token goes to the address it was given for, and nowhere else.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("lian-build/", env!("CARGO_PKG_VERSION")));
        if access.is_local() {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| {
            let message = format!("no client for Hetzner Cloud can be made: {}", innermost(&error));
            Fault::new(FaultKind::Unavailable, "lian::hcloud::client", message)
                .help("check the system's certificates (SSL_CERT_FILE) and proxy settings")
        })?;
        Ok(Self { client, access, pace })
    }

    pub(super) fn pace(&self) -> &Timeouts {
        &self.pace
    }

    /// Asks once.
    pub(super) async fn once(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value, ApiError> {
        let address = format!("{}{path}", self.access.endpoint());
        let mut request = self.client.request(method, address).bearer_auth(self.access.token()).query(query);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(lost)?;
        let (status, wait) = (response.status(), self.wait(response.status(), response.headers()));
        let bytes = response.bytes().await.map_err(lost)?;
        if !status.is_success() {
            return Err(ApiError::from_answer(status.as_u16(), &bytes, wait));
        }
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|error| ApiError::Lost(format!("its answer is not understood: {error}")))
    }

    /// Asks until there is an answer. For requests that may be made twice.
    pub(super) async fn patiently(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Value, ApiError> {
        let mut pauses = self.pauses();
        loop {
            match self.once(method.clone(), path, query, None).await {
                Err(error) => pauses.after(error).await?,
                answer => return answer,
            }
        }
    }

    /// The object at a path, under its key; none where there is none.
    pub(super) async fn find<T: DeserializeOwned>(&self, path: &str, key: &str) -> Result<Option<T>, ApiError> {
        match self.patiently(Method::GET, path, &[]).await {
            Ok(mut answer) => parse(answer[key].take()).map(Some),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes what is at a path; what is gone is deleted.
    pub(super) async fn delete(&self, path: &str) -> Result<(), ApiError> {
        match self.patiently(Method::DELETE, path, &[]).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Everything of one kind (`servers`) that a query finds, page by page.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        kind: &str,
        query: &[(&str, &str)],
    ) -> Result<Vec<T>, ApiError> {
        let (mut all, mut page) = (Vec::new(), 1);
        loop {
            let number = page.to_string();
            let mut query = query.to_vec();
            query.extend([("page", number.as_str()), ("per_page", "50")]);
            let mut answer = self.patiently(Method::GET, &format!("/{kind}"), &query).await?;
            all.extend(parse::<Vec<T>>(answer[kind].take())?);
            match answer["meta"]["pagination"]["next_page"].as_u64() {
                Some(next) if next > page => page = next,
                _ => return Ok(all),
            }
        }
    }

    /// The pauses of one wish.
    pub(super) fn pauses(&self) -> Pauses {
        Pauses { next: self.pace.first, longest: self.pace.longest, left: REPEATS, told: false }
    }

    /// How long the API asks us to wait. `RateLimit-Reset` is the time at which the whole hour's budget is back; one
    /// request is back after a second, so that it is a bound and no order.
    fn wait(&self, status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
        let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
        if let Some(seconds) = number("retry-after") {
            return Some(Duration::from_secs(seconds));
        }
        let reset = number("ratelimit-reset").filter(|_| status == StatusCode::TOO_MANY_REQUESTS)?;
        Some(Duration::from_secs(reset).saturating_sub(since_epoch()).min(self.pace.longest))
    }
}

/// An answer as what it should be.
pub(super) fn parse<T: DeserializeOwned>(value: Value) -> Result<T, ApiError> {
    serde_json::from_value(value).map_err(|error| ApiError::Lost(format!("its answer is not understood: {error}")))
}

/// Pauses that grow.
pub(super) struct Pauses {
    next: Duration,
    longest: Duration,
    left: u32,
    told: bool,
}

impl Pauses {
    /// Waits for as long as this error asks for, or gives it back where asking again is of no use.
    pub(super) async fn after(&mut self, error: ApiError) -> Result<(), ApiError> {
        match error.patience() {
            Patience::None => return Err(error),
            Patience::Some if self.left == 0 => return Err(error),
            Patience::Some => self.left -= 1,
            Patience::AsLongAsThereIsTime => {}
        }
        // Told once, and only where it is going to take a while.
        if self.left + 2 == REPEATS && !self.told {
            self.told = true;
            tracing::warn!("Hetzner Cloud does not answer as it should: {error}; asking again");
        }
        tracing::debug!(%error, "asking Hetzner Cloud again");
        let least = error.wait().unwrap_or(Duration::ZERO);
        tokio::time::sleep(jittered(self.next).max(least)).await;
        self.next = (self.next * 2).min(self.longest);
        Ok(())
    }

    /// Waits before looking again at something that takes its time: not too long, it is being paid for.
    pub(super) async fn look(&mut self) {
        tokio::time::sleep(jittered(self.next)).await;
        self.next = (self.next * 2).min(self.longest / 4).max(Duration::from_millis(1));
    }
}

/// Up to a quarter longer: leases that were refused together do not ask again together.
fn jittered(pause: Duration) -> Duration {
    let dice = std::hash::RandomState::new().build_hasher().finish() % 256;
    pause + pause.mul_f64(f64::from(u8::try_from(dice).unwrap_or(0)) / 1024.0)
}

fn lost(error: reqwest::Error) -> ApiError {
    let error = error.without_url();
    ApiError::Lost(if error.is_timeout() { "no answer in time".to_owned() } else { innermost(&error) })
}
