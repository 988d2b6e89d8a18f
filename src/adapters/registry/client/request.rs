//! Sends requests to a registry with authorisation and retries. Not responsible for: the content of requests.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode, Url};

use super::super::files::failed;
use super::api_error::{ApiError, Cause, is_busy};
use super::auth::{Access, Auth, Scope, pause_asked};
use super::body::FileBody;
use crate::system::http::{client_for, is_loopback};
use crate::system::peer::{Peer, Transfer};
use crate::system::retry::{Backoff, Retry, retry};
use crate::system::watch::{self, SignsOfLife, until_silent};

/// First and longest delay between retries.
const PAUSES: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(3));
/// Maximum bytes to read of an error response.
const REFUSAL_BYTES: usize = 64 * 1024;

/// A request that can be sent again.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    /// The access that it needs.
    pub(super) scope: Scope<'a>,
    pub(super) accept: Option<&'static str>,
    pub(super) body: Payload<'a>,
}

/// The body of a request.
pub(super) enum Payload<'a> {
    Empty,
    Bytes { media_type: &'a str, bytes: Bytes },
    File { path: &'a Path, size: u64 },
}

/// The registry and the client's settings for it.
#[derive(Debug, Clone)]
pub(in super::super) struct Endpoint {
    /// `host[:port]`.
    pub(in super::super) host: String,
    /// Whether to use plain HTTP.
    pub(in super::super) plain_http: bool,
    /// The access that the client needs.
    pub(in super::super) access: Access,
    /// Maximum number of retries per request.
    pub(in super::super) retries: u32,
}

impl Endpoint {
    /// The base URL of its API; `None` if the host is invalid.
    fn base(&self) -> Option<Url> {
        let scheme = if self.plain_http { "http" } else { "https" };
        let host = if self.host == "docker.io" { "registry-1.docker.io" } else { &self.host };
        Url::parse(&format!("{scheme}://{host}")).ok()
    }
}

/// A client of one registry.
pub(in super::super) struct Client {
    host: String,
    base: Url,
    peer: Peer,
    auth: Auth,
    backoff: Backoff,
}

impl Client {
    /// Creates a client. Sends no request yet.
    pub(in super::super) fn new(endpoint: &Endpoint) -> Result<Self, ApiError> {
        let failed = |cause| ApiError { registry: endpoint.host.clone(), cause };
        let base = endpoint.base().ok_or_else(|| {
            let help = "correct `registry.address` in the workflow";
            failed(Cause::Unusable { what: "is no address".to_owned(), help })
        })?;
        let built = |client: reqwest::ClientBuilder| match client.build() {
            Ok(client) => Ok(Peer::new(client)),
            Err(error) => Err(failed(Cause::unreachable(&error))),
        };
        // Some registries redirect blobs to another host; do not send the login there.
        let peer = built(client_for(&base).redirect(reqwest::redirect::Policy::default()))?;
        let open = base.scheme() == "http" || is_loopback(&base);
        let auth = Auth::new(built(client_for(&base))?, endpoint.host.clone(), open, endpoint.access);
        let backoff = Backoff::of_requests(PAUSES.0, PAUSES.1, endpoint.retries).factor(3.0);
        Ok(Self { host: endpoint.host.clone(), base, peer, auth, backoff })
    }

    pub(in super::super) fn error(&self, cause: Cause) -> ApiError {
        ApiError { registry: self.host.clone(), cause }
    }

    /// Retries an operation with growing delays, as long as a retry may help.
    pub(super) async fn retried<T, W>(&self, work: impl Fn() -> W) -> Result<T, ApiError>
    where
        W: Future<Output = Result<T, ApiError>>,
    {
        let judge = |error: &ApiError| {
            if !error.cause.may_pass() {
                return Retry::Never;
            }
            tracing::debug!(registry = self.host, "{:?}: once more", error.cause);
            match &error.cause {
                Cause::Refused { retry_after, .. } => Retry::Counted(*retry_after),
                Cause::Silent(retry) | Cause::SilentTokens(retry) => *retry,
                _ => Retry::Counted(None),
            }
        };
        retry(self.backoff.pauses(), work, judge).await
    }

    /// Uses this login instead of the one in the user's Docker config.
    #[cfg(test)]
    pub(in super::super) fn log_in(&mut self, login: super::super::credentials::Login) {
        self.auth.log_in(login);
    }

    /// Waits less for a silent registry.
    #[cfg(test)]
    pub(in super::super) fn impatient(&mut self, silence: Duration) {
        self.peer = self.peer.clone().silence(silence);
        self.auth.impatient(silence);
    }

    /// The URL of `manifests/…` or `blobs/…` in a repository.
    pub(super) fn url(&self, repository: &str, rest: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("/v2/{repository}/{rest}"));
        url
    }

    /// The target of a `Location` header. Restores `https` if the registry drops it for its own host.
    pub(super) fn joined(&self, location: &str) -> Option<Url> {
        let mut url = self.base.join(location).ok()?;
        if url.host() == self.base.host() && url.scheme() == "http" && self.base.scheme() == "https" {
            url.set_scheme("https").ok()?;
        }
        Some(url)
    }

    /// Sends a request until the response is final.
    pub(super) async fn send(&self, request: &Request<'_>) -> Result<Transfer, ApiError> {
        self.retried(|| self.ask(request)).await
    }

    /// Like [`Client::send`], and reads the whole response, up to this many bytes.
    pub(super) async fn read(
        &self,
        request: &Request<'_>,
        most: usize,
    ) -> Result<(StatusCode, HeaderMap, Bytes), ApiError> {
        let work = || async {
            let mut response = self.ask(request).await?;
            let (status, headers) = (response.status(), response.headers().clone());
            let body = self.body(&mut response, most).await?;
            if body.len() > most {
                let what = format!("sends more than {most} bytes for {}", request.scope.repository);
                let help = "this is no image of lian-build's: use another `registry.address`";
                return Err(self.error(Cause::Unusable { what, help }));
            }
            Ok((status, headers, Bytes::from(body)))
        };
        self.retried(work).await
    }

    /// The error for an unexpected response.
    pub(super) async fn refused(&self, scope: Scope<'_>, mut response: Transfer) -> ApiError {
        let body = self.body(&mut response, REFUSAL_BYTES).await.unwrap_or_default();
        let cause = Cause::refused(scope.repository, response.status(), &body);
        self.error(cause.retry_after(pause_asked(response.headers())))
    }

    /// One attempt; a second one if the registry first asks for authorisation.
    pub(super) async fn ask(&self, request: &Request<'_>) -> Result<Transfer, ApiError> {
        // Send a login or token only to the registry itself.
        let own = request.url.origin() == self.base.origin();
        let mut challenged = false;
        loop {
            let header = if own { self.auth.header(request.scope).await? } else { None };
            let response = self.execute(request, header.clone()).await?;
            let status = response.status();
            tracing::debug!(method = %request.method, url = %request.url, status = status.as_u16(), "registry");
            if status == StatusCode::UNAUTHORIZED {
                let refused = header.as_ref();
                if challenged || !own || !self.auth.challenged(response.headers(), request.scope, refused).await {
                    return Err(self.auth.unauthorized(request.scope.repository).await);
                }
                challenged = true;
                continue;
            }
            if is_busy(status) {
                return Err(self.refused(request.scope, response).await);
            }
            return Ok(response);
        }
    }

    async fn execute(&self, request: &Request<'_>, header: Option<HeaderValue>) -> Result<Transfer, ApiError> {
        let mut builder = self.peer.request(request.method.clone(), request.url.clone());
        if let Some(accept) = request.accept {
            builder = builder.header(ACCEPT, accept);
        }
        if let Some(header) = header {
            builder = builder.header(AUTHORIZATION, header);
        }
        let mut sent = None;
        builder = match &request.body {
            Payload::Empty if request.method == Method::POST => builder.header(CONTENT_LENGTH, 0),
            Payload::Empty => builder,
            Payload::Bytes { media_type, bytes } => builder.header(CONTENT_TYPE, *media_type).body(bytes.clone()),
            Payload::File { path, size } => {
                let (body, counter) = FileBody::open(path, *size)
                    .map_err(|error| self.error(Cause::File(failed("cannot read the blob", path, error))))?;
                sent = Some((counter, *size));
                let builder = builder.header(CONTENT_TYPE, "application/octet-stream").header(CONTENT_LENGTH, *size);
                builder.body(reqwest::Body::wrap(body))
            }
        };
        let answer = match &sent {
            Some((taken, size)) => self.peer.upload(builder, (taken, *size), self.gone()).await,
            None => self.peer.open(builder).await,
        };
        answer.map_err(|lost| self.error(lost.into()))
    }

    /// Asks something short again and again; completes when the registry does not answer that either.
    async fn gone(&self) {
        let _ = until_silent(&SignsOfLife::default(), || async {
            let mut url = self.base.clone();
            url.set_path("/v2/");
            let asked = self.peer.request(Method::GET, url);
            match self.peer.ask(asked, watch::ANSWER, REFUSAL_BYTES).await {
                Err(lost) if lost.is_silence() => Err(()),
                _ => Ok(()),
            }
        })
        .await;
    }

    /// Reads a response body. If it is too long, slightly more than `most` bytes are read.
    async fn body(&self, response: &mut Transfer, most: usize) -> Result<Vec<u8>, ApiError> {
        let mut body = Vec::new();
        while body.len() <= most {
            match self.chunk(response).await? {
                Some(chunk) => body.extend_from_slice(&chunk),
                None => break,
            }
        }
        Ok(body)
    }

    /// The next piece of a response body.
    pub(super) async fn chunk(&self, response: &mut Transfer) -> Result<Option<Bytes>, ApiError> {
        self.peer.next(response).await.map_err(|lost| self.error(lost.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interface_of_a_registry_is_at_its_host() {
        let base = |host: &str, plain_http| {
            let endpoint = Endpoint { host: host.to_owned(), plain_http, access: Access::Pull, retries: 0 };
            endpoint.base().expect("an address").to_string()
        };
        assert_eq!(base("registry.example:5000", false), "https://registry.example:5000/");
        assert_eq!(base("[::1]:5000", true), "http://[::1]:5000/");
        assert_eq!(base("docker.io", false), "https://registry-1.docker.io/");
    }
}
