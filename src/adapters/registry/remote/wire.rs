//! Requests to a registry: with whatever it wants to see, and again where it stumbles. Not responsible for: knowing what they are for.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Method, Response, StatusCode, Url};

use super::super::files::failed;
use super::super::resolve::is_local;
use super::address::Address;
use super::api_error::{ApiError, Faults};
use super::auth::{Auth, Scope};
use super::body::FileBody;
use crate::domain::ports::ImageStoreError;
use crate::system::http::{client_for, retry_after};
use crate::system::retry::{Backoff, Retry, retry};

/// When a request is tried again.
const AGAIN: Backoff = Backoff::of_requests(Duration::from_millis(300), Duration::from_secs(3), 3).factor(3.0);
/// The longest pause that a registry may ask for.
const LONGEST: Duration = Duration::from_secs(30);
/// A registry gets so long to begin its answer, or to go on with it, or to take more of an upload.
pub(super) const LIMIT: Duration = Duration::from_secs(60);
/// So many times as long to keep what was uploaded.
const KEEPING: u32 = 10;
/// Of a refusal no more is read.
const REFUSAL_BYTES: usize = 64 * 1024;

/// A request, which may be sent more than once.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    /// What access is asked for.
    pub(super) scope: Scope<'a>,
    pub(super) accept: Option<&'static str>,
    pub(super) body: Payload<'a>,
}

/// What a request brings.
pub(super) enum Payload<'a> {
    Nothing,
    Bytes { kind: &'a str, bytes: Bytes },
    File { path: &'a Path, size: u64 },
}

/// A way to a registry.
pub(super) struct Wire {
    pub(super) address: Address,
    pub(super) faults: Faults,
    base: Url,
    client: Client,
    auth: Auth,
}

impl Wire {
    pub(super) fn new(address: Address) -> Result<Self, ImageStoreError> {
        let faults = Faults { host: address.host().to_owned() };
        let base = Url::parse(&address.base())
            .map_err(|_| faults.told("is no address", "correct `registry.address` in the workflow"))?;
        // Some registries hand blobs out from elsewhere; a login does not go along to another host.
        let client = client_for(&base).redirect(reqwest::redirect::Policy::default());
        let client = client.build().map_err(|error| faults.unreachable(error))?;
        let auth = Auth::new(client.clone(), faults.clone(), address.plain_http() || is_local(address.host()));
        Ok(Self { address, faults, base, client, auth })
    }

    /// Uses this login, whatever this machine's user has.
    #[cfg(test)]
    pub(super) fn log_in(&mut self, login: super::super::credentials::Login) {
        self.auth.log_in(login);
    }

    /// The address of something in a repository: `manifests/…`, `blobs/…`.
    pub(super) fn url(&self, repository: &str, rest: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("/v2/{repository}/{rest}"));
        url
    }

    /// Where an answer points to. One that forgets the TLS of its own host is corrected.
    pub(super) fn joined(&self, location: &str) -> Option<Url> {
        let mut url = self.base.join(location).ok()?;
        if url.host() == self.base.host() && url.scheme() == "http" && self.base.scheme() == "https" {
            url.set_scheme("https").ok()?;
        }
        Some(url)
    }

    /// Sends it until there is an answer that is not a stumble.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<Response, ImageStoreError> {
        retried(|| self.ask(call)).await
    }

    /// As [`Wire::send`], and reads the whole answer, which must not be longer than so many bytes.
    pub(super) async fn read(
        &self,
        call: &Call<'_>,
        most: usize,
    ) -> Result<(StatusCode, HeaderMap, Bytes), ImageStoreError> {
        let work = || async {
            let mut response = self.ask(call).await?;
            let (status, headers) = (response.status(), response.headers().clone());
            let body = self.body(&mut response, most).await?;
            if body.len() > most {
                let what = format!("sends more than {most} bytes for {}", call.scope.repository);
                return Err(self
                    .faults
                    .told(what, "this is no image of lian-build's: use another `registry.address`")
                    .into());
            }
            Ok((status, headers, Bytes::from(body)))
        };
        retried(work).await
    }

    /// The error of an answer that nothing can be done with.
    pub(super) async fn refused(&self, scope: Scope<'_>, mut response: Response) -> ImageStoreError {
        let body = self.body(&mut response, REFUSAL_BYTES).await.unwrap_or_default();
        self.faults.answered(scope.repository, response.status(), &body)
    }

    /// One try, or two where the registry first had to say what it wants to see.
    pub(super) async fn ask(&self, call: &Call<'_>) -> Result<Response, ApiError> {
        // Nobody but the registry itself gets to see a login or a token.
        let own = call.url.origin() == self.base.origin();
        let mut asked = false;
        loop {
            let header = if own { self.auth.header(call.scope).await? } else { None };
            let mut response = self.execute(call, header).await?;
            let (status, after) = (response.status(), pause_asked(response.headers()));
            tracing::debug!(method = %call.method, url = %call.url, status = status.as_u16(), "registry");
            if status == StatusCode::UNAUTHORIZED {
                if asked || !own || !self.auth.learn(response.headers(), call.scope).await {
                    return Err(self.auth.unauthorized(call.scope.repository).await);
                }
                asked = true;
                continue;
            }
            if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
                let body = self.body(&mut response, REFUSAL_BYTES).await.unwrap_or_default();
                return Err(ApiError::passing(self.faults.answered(call.scope.repository, status, &body), after));
            }
            return Ok(response);
        }
    }

    async fn execute(&self, call: &Call<'_>, header: Option<HeaderValue>) -> Result<Response, ApiError> {
        let mut request = self.client.request(call.method.clone(), call.url.clone());
        if let Some(accept) = call.accept {
            request = request.header(ACCEPT, accept);
        }
        if let Some(header) = header {
            request = request.header(AUTHORIZATION, header);
        }
        let mut sent = None;
        request = match &call.body {
            Payload::Nothing if call.method == Method::POST => request.header(CONTENT_LENGTH, 0),
            Payload::Nothing => request,
            Payload::Bytes { kind, bytes } => request.header(CONTENT_TYPE, *kind).body(bytes.clone()),
            Payload::File { path, size } => {
                let (body, counter) =
                    FileBody::open(path, *size).map_err(|error| failed("cannot read the blob", path, error))?;
                sent = Some((counter, *size));
                let request = request.header(CONTENT_TYPE, "application/octet-stream").header(CONTENT_LENGTH, *size);
                request.body(reqwest::Body::wrap(body))
            }
        };
        let answer = tokio::select! {
            answer = request.send() => answer,
            () = stalled(sent.as_ref().map(|(sent, size)| (&**sent, *size))) => {
                return Err(ApiError::passing(self.faults.silent("it does not go on"), None));
            }
        };
        answer.map_err(|error| ApiError::passing(self.faults.unreachable(error), None))
    }

    /// The answer's content; of one that is too long, a little more than so much.
    async fn body(&self, response: &mut Response, most: usize) -> Result<Vec<u8>, ApiError> {
        let mut body = Vec::new();
        while body.len() <= most {
            let chunk = tokio::time::timeout(LIMIT, response.chunk()).await;
            let chunk = chunk.map_err(|_| ApiError::passing(self.faults.silent("it stopped in mid-answer"), None))?;
            match chunk.map_err(|error| ApiError::passing(self.faults.unreachable(error), None))? {
                Some(chunk) => body.extend_from_slice(&chunk),
                None => break,
            }
        }
        Ok(body)
    }
}

/// Ends when nothing has moved for as long as is waited for. Once all is sent, a registry may have to move it to where it
/// keeps it, and that is waited for longer.
async fn stalled(upload: Option<(&AtomicU64, u64)>) {
    let (mut before, mut quiet) = (None, 0);
    loop {
        tokio::time::sleep(LIMIT).await;
        let now = upload.map(|(sent, _)| sent.load(Ordering::Relaxed));
        quiet = if now.is_some() && now != before { 0 } else { quiet + 1 };
        let all = upload.is_some_and(|(sent, size)| sent.load(Ordering::Relaxed) >= size);
        if quiet >= if all { KEEPING } else { 1 } {
            return;
        }
        before = now;
    }
}

/// Does something again, after ever longer pauses, while what is wrong may pass.
pub(super) async fn retried<T, W>(work: impl Fn() -> W) -> Result<T, ImageStoreError>
where
    W: Future<Output = Result<T, ApiError>>,
{
    let judge = |broken: &ApiError| {
        if !broken.passing {
            return Retry::Never;
        }
        tracing::debug!("{}: once more", broken.error);
        Retry::Counted(broken.after)
    };
    retry(AGAIN.pauses(), || work(), judge).await.map_err(|broken| broken.error)
}

/// The pause that an answer asks for.
pub(super) fn pause_asked(headers: &HeaderMap) -> Option<Duration> {
    retry_after(headers).map(|asked| asked.min(LONGEST))
}
