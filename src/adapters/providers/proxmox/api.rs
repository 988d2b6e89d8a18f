//! Sends an API request, or runs an API task, until its result is final. Not responsible for: leases.

use std::time::Duration;

use reqwest::{Method, Url};
use serde_json::Value;
use tokio::time::Instant;

use super::api_error::{ApiError, ERRORS, MESSAGE_CHARS};
use super::mark::percent;
use super::settings::ProxmoxSettings;
use super::tls;
use super::token::Token;
use crate::domain::model::Fault;
use crate::system::RemoteClock;
use crate::system::error_chain::with_causes;
use crate::system::http::{API_ANSWER_BYTES, client_for, date, redirect_words};
use crate::system::peer::{Answer, Lost, Peer};
use crate::system::retry::{Backoff, Pauses, retry};

/// Retry schedule for temporary failures.
const AGAIN: Backoff = Backoff::of_requests(Duration::from_millis(200), Duration::from_secs(5), 5).factor(1.6);
/// Poll schedule for short operations.
const POLLS: Backoff = Backoff::of_polls(Duration::from_millis(50), Duration::from_secs(2)).factor(1.6);

/// Form or query fields.
pub(super) type Fields<'f> = &'f [(&'f str, String)];

/// Polls a short operation until a deadline.
#[derive(Debug)]
pub(super) struct Polls {
    began: Instant,
    pauses: Pauses,
}

impl Polls {
    pub(super) fn until(deadline: Instant) -> Self {
        Self { began: Instant::now(), pauses: POLLS.pauses().until(deadline) }
    }

    /// Waits for the next poll; [`ApiError::Late`] if it would be past the deadline.
    pub(super) async fn pause(&mut self, what: impl FnOnce() -> String) -> Result<(), ApiError> {
        if self.pauses.poll().await {
            return Ok(());
        }
        Err(ApiError::Late { waited: self.began.elapsed(), what: what() })
    }
}

/// A node's API.
#[derive(Debug)]
pub(super) struct Api {
    peer: Peer,
    /// `https://host:8006/api2/json`.
    root: String,
    /// `nodes/NODE`.
    node: String,
    token: Token,
    clock: RemoteClock,
}

impl Api {
    /// Creates the client for the settings' node; sends nothing yet.
    pub(super) fn new(settings: &ProxmoxSettings, token: Token) -> Result<Self, Fault> {
        let bad = |error: &dyn std::fmt::Display| {
            let message = format!("`{}` is not the address of an API: {error}", settings.endpoint);
            Fault::configuration("lian::proxmox::endpoint", message)
                .help("write `providers.proxmox.endpoint = \"https://HOST:8006\"`")
        };
        let endpoint = Url::parse(&settings.endpoint).map_err(|error| bad(&error))?;
        if !matches!(endpoint.scheme(), "http" | "https") || endpoint.host_str().is_none() {
            return Err(bad(&"it does not begin with https://"));
        }
        let trust = tls::trust(&endpoint, settings)?;
        let client = client_for(&endpoint)
            .tls_backend_preconfigured(trust)
            .https_only(endpoint.scheme() == "https")
            // pveproxy closes connections after 5 s of idling.
            .pool_idle_timeout(Duration::from_secs(3))
            .build()
            .map_err(|error| bad(&error))?;
        let root = format!("{}/api2/json", settings.endpoint.trim_end_matches('/'));
        Ok(Self {
            peer: Peer::new(client),
            root,
            node: format!("nodes/{}", percent(&settings.node)),
            token,
            clock: RemoteClock::default(),
        })
    }

    /// The node's clock, in which expiries stand.
    pub(super) fn clock(&self) -> &RemoteClock {
        &self.clock
    }

    /// Sends one request. The path is below the node's, unless it begins with a slash. Fields go into the query of a GET or DELETE, and into the form of a POST.
    pub(super) async fn once(
        &self,
        method: &Method,
        path: &str,
        fields: Fields<'_>,
        until: Instant,
    ) -> Result<Value, ApiError> {
        let path = path.strip_prefix('/').map_or_else(|| format!("{}/{path}", self.node), str::to_owned);
        let mut request = self.peer.request(method.clone(), format!("{}/{path}", self.root));
        request = if *method == Method::POST { request.form(fields) } else { request.query(fields) };
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let request = request.header(reqwest::header::AUTHORIZATION, self.token.header());
        let answered = self.peer.ask(request, left, API_ANSWER_BYTES).await;
        if let Ok(Answer { headers, .. }) = &answered {
            self.clock.heard(date(headers));
        }
        answer(method, &path, answered)
    }

    /// Sends a request and retries until the result is final. A request whose response was lost is sent again, so
    /// callers must accept that the work may already be done.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        fields: Fields<'_>,
        until: Instant,
    ) -> Result<Value, ApiError> {
        self.called(|| self.once(&method, path, fields, until), until).await
    }

    /// Like [`Self::call`], for a caller that provides the single request.
    async fn called<A: Future<Output = Result<Value, ApiError>>>(
        &self,
        once: impl Fn() -> A,
        until: Instant,
    ) -> Result<Value, ApiError> {
        let judge = |error: &ApiError| {
            tracing::debug!(?error, "refused");
            error.retry()
        };
        retry(AGAIN.pauses().until(until), once, judge).await
    }

    /// Starts a task and waits for it to end; restarts a task that could not get a lock.
    pub(super) async fn work(
        &self,
        method: Method,
        path: &str,
        fields: Fields<'_>,
        until: Instant,
    ) -> Result<(), ApiError> {
        self.worked(|| self.once(&method, path, fields, until), until).await
    }

    /// Like [`Self::work`], for a caller that provides the single request.
    pub(super) async fn worked<A: Future<Output = Result<Value, ApiError>>>(
        &self,
        once: impl Fn() -> A,
        until: Instant,
    ) -> Result<(), ApiError> {
        let mut pauses = AGAIN.pauses().until(until);
        loop {
            let task = self.called(&once, until).await?;
            let Some(task) = task.as_str() else { return Ok(()) };
            let Err(error) = self.ended(task, until).await else { return Ok(()) };
            if !pauses.wait(error.retry()).await {
                return Err(error);
            }
        }
    }

    /// Waits until a task ends.
    pub(super) async fn ended(&self, task: &str, until: Instant) -> Result<(), ApiError> {
        let path = format!("tasks/{}/status", percent(task));
        let mut polls = Polls::until(until);
        loop {
            let status = self.call(Method::GET, &path, &[], until).await?;
            if status["status"] == "stopped" {
                let exit = status["exitstatus"].as_str().unwrap_or("unknown").trim();
                return if exit == "OK" || exit.starts_with("WARNINGS: ") {
                    Ok(())
                } else {
                    Err(ApiError::Failed { task: task.to_owned(), exit: one_line(exit) })
                };
            }
            polls.pause(|| format!("the task {task} is still running")).await?;
        }
    }
}

pub(super) fn answer(method: &Method, path: &str, answer: Result<Answer, Lost>) -> Result<Value, ApiError> {
    let Answer { status, phrase, body, .. } = answer.map_err(|lost| unanswered(&lost))?;
    let refused = |message: String| {
        let what = format!("{method} {path}");
        Err(ApiError::Refused { what, status: status.as_u16(), message: one_line(&message) })
    };
    let mut json: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    if !status.is_success() {
        // Older releases give the cause only in the reason phrase.
        let said = json["message"].as_str().map(str::to_owned).filter(|said| !said.trim().is_empty());
        let redirect = || redirect_words(status.as_u16()).map(str::to_owned);
        let mut message = said.or_else(redirect).or(phrase).unwrap_or_default();
        for (name, error) in json["errors"].as_object().into_iter().flatten().take(ERRORS) {
            let error = error.as_str().map_or_else(|| error.to_string(), str::to_owned);
            message = format!("{} {name}: {};", message.trim(), error.trim());
        }
        return refused(message.trim_end_matches(';').to_owned());
    }
    match json.as_object_mut().and_then(|answer| answer.remove("data")) {
        Some(data) => Ok(data),
        None => refused("this is not an answer of Proxmox VE".to_owned()),
    }
}

/// Maps a transport error: no response, or an untrusted server.
fn unanswered(lost: &Lost) -> ApiError {
    let error = match lost {
        Lost::Broken(error) => error,
        Lost::Silent { .. } | Lost::Slow => return ApiError::Silent(lost.retry()),
        Lost::TooLong(_) => return ApiError::Unanswered(lost.to_string()),
    };
    match tls::within(error) {
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(wrong))) => {
            return ApiError::Untrusted(wrong.to_string());
        }
        Some(wrong @ rustls::Error::InvalidCertificate(_)) => return ApiError::Untrusted(one_line(&wrong.to_string())),
        _ => {}
    }
    ApiError::Unanswered(one_line(&with_causes(error)))
}

/// A text without line breaks, as far as it is repeated.
fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(MESSAGE_CHARS).collect()
}
