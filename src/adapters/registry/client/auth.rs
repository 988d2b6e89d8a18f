//! Authorisation at a registry: none, the login itself, or a token from the registry's token server. A login is sent
//! without TLS only if the registry itself has no TLS. Not responsible for: where logins are kept.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::super::credentials::{self, Login};
use super::api_error::{ApiError, Cause};
use crate::system::http::retry_after;
use crate::system::peer::{Answer, Peer, SILENCE};
use crate::system::retry::within;

/// Upper bound for a delay that a registry requests.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Maximum bytes of a token server's answer.
const TOKEN_BYTES: usize = 1024 * 1024;
/// Lifetime of a token without `expires_in`, from the token specification.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// A token is asked for anew after this, whatever its server says.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Help text for faults of the registry itself.
const SEE_LOG: &str = "check the registry's log";

/// Access that a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Access {
    /// Pull only.
    Pull,
    /// Pull and push, with a login.
    PullAndPush,
}

/// The repositories of a request: its own, and optionally a second one to read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scope<'a> {
    pub(super) repository: &'a str,
    pub(super) beside: Option<&'a str>,
}

/// The authorisation state of one registry.
pub(super) struct Auth {
    /// Follows no redirects: the body of a request holds a login, and would be sent again.
    peer: Peer,
    host: String,
    /// Whether tokens may be fetched without TLS.
    open: bool,
    access: Access,
    login: OnceCell<Login>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    scheme: Option<Scheme>,
    tokens: HashMap<String, (HeaderValue, Instant)>,
}

#[derive(Clone, PartialEq, Eq)]
enum Scheme {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl Auth {
    pub(super) fn new(peer: Peer, host: String, open: bool, access: Access) -> Self {
        Self { peer, host, open, access, login: OnceCell::new(), known: Mutex::default() }
    }

    fn error(&self, cause: Cause) -> ApiError {
        ApiError { registry: self.host.clone(), cause }
    }

    #[cfg(test)]
    pub(super) fn log_in(&mut self, login: Login) {
        self.login = OnceCell::new_with(Some(login));
    }

    #[cfg(test)]
    pub(super) fn impatient(&mut self, silence: Duration) {
        self.peer = self.peer.clone().silence(silence);
    }

    /// The `Authorization` header of a request, if the registry has already asked for one.
    pub(super) async fn header(&self, scope: Scope<'_>) -> Result<Option<HeaderValue>, ApiError> {
        let scheme = self.known().scheme.clone();
        match scheme {
            None => Ok(None),
            Some(Scheme::Basic) => Ok(basic(self.login().await)),
            Some(Scheme::Bearer { realm, service }) => {
                let wanted = scope.actions(self.login().await, self.access);
                let key = wanted.join(" ");
                if let Some((header, until)) = self.known().tokens.get(&key)
                    && *until > Instant::now()
                {
                    return Ok(Some(header.clone()));
                }
                let (header, life) = self.token(&realm, service.as_deref(), &wanted, scope.repository).await?;
                self.known().tokens.insert(key, (header.clone(), Instant::now() + life));
                Ok(Some(header))
            }
        }
    }

    /// Processes a 401 response; `refused` is the header that was sent. Returns whether a retry makes sense.
    pub(super) async fn challenged(
        &self,
        headers: &HeaderMap,
        scope: Scope<'_>,
        refused: Option<&HeaderValue>,
    ) -> bool {
        let offered: Vec<_> =
            headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).collect();
        let Some(scheme) = offered.iter().find_map(|text| bearer(text)).or_else(|| {
            let is_basic = |text: &&&str| text.get(..5).is_some_and(|word| word.eq_ignore_ascii_case("basic"));
            offered.iter().find(is_basic).map(|_| Scheme::Basic)
        }) else {
            return false;
        };
        let login = self.login().await;
        if scheme == Scheme::Basic && !matches!(login, Login::Password { .. }) {
            return false;
        }
        let key = scope.actions(login, self.access).join(" ");
        let mut known = self.known();
        // Another request may have fetched a token in the meantime; that one was not refused.
        if known.tokens.get(&key).is_some_and(|(token, _)| Some(token) == refused) {
            known.tokens.remove(&key);
        }
        known.scheme = Some(scheme);
        true
    }

    /// The error for a refusal that no further attempt can resolve.
    pub(super) async fn unauthorized(&self, repository: &str) -> ApiError {
        let had_login = *self.login().await != Login::Anonymous;
        self.error(Cause::Unauthorized { repository: repository.to_owned(), had_login })
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looked up once, when the registry first asks: a credential helper may prompt the user.
    async fn login(&self) -> &Login {
        let host = self.host.clone();
        let find = || async {
            let found = tokio::task::spawn_blocking(move || credentials::of(&host)).await;
            found.unwrap_or(Login::Anonymous)
        };
        self.login.get_or_init(find).await
    }

    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        wanted: &[String],
        repository: &str,
    ) -> Result<(HeaderValue, Duration), ApiError> {
        let request = self.token_request(realm, service, wanted).await?;
        let asked = self.peer.ask(request, SILENCE, TOKEN_BYTES).await;
        let Answer { status, headers, body, .. } = asked.map_err(|lost| match Cause::from(lost) {
            Cause::Silent(retry) => self.error(Cause::SilentTokens(retry)),
            cause => self.error(cause),
        })?;
        let pause = pause_asked(&headers);
        match status {
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(self.unauthorized(repository).await);
            }
            status if status.is_redirection() => {
                let what = "has a token server that sends the login elsewhere".to_owned();
                let help = "let the registry name the address that its token server redirects to";
                return Err(self.error(Cause::Unusable { what, help }));
            }
            status if !status.is_success() => {
                return Err(self.error(Cause::refused(repository, status, b"").retry_after(pause)));
            }
            _ => {}
        }
        let read = serde_json::from_slice::<Token>(&body).ok();
        let odd = || {
            let what = "has a token server that gives no token".to_owned();
            self.error(Cause::Unusable { what, help: SEE_LOG })
        };
        let Token { token, access_token, expires_in } = read.ok_or_else(odd)?;
        let token = if token.is_empty() { access_token } else { token };
        let mut header = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| odd())?;
        header.set_sensitive(true);
        Ok((header, life(expires_in)))
    }

    async fn token_request(
        &self,
        realm: &str,
        service: Option<&str>,
        wanted: &[String],
    ) -> Result<reqwest::RequestBuilder, ApiError> {
        let login = self.login().await;
        let mut url = self.realm(realm, login)?;
        let fields = service.map(|service| ("service", service)).into_iter();
        if let Login::Identity(token) = login {
            let joined = wanted.join(" ");
            let own = [
                ("grant_type", "refresh_token"),
                ("refresh_token", token),
                ("client_id", "lian-build"),
                ("scope", &joined),
            ];
            let form: Vec<(&str, &str)> = fields.chain(own).collect();
            return Ok(self.peer.request(Method::POST, url).form(&form));
        }
        let scopes = wanted.iter().map(|scope| ("scope", scope.as_str()));
        url.query_pairs_mut().extend_pairs(fields.chain(scopes));
        let request = self.peer.request(Method::GET, url);
        Ok(match basic(login) {
            Some(header) => request.header(AUTHORIZATION, header),
            None => request,
        })
    }

    /// The token server's address, if the login may be sent there.
    fn realm(&self, realm: &str, login: &Login) -> Result<Url, ApiError> {
        let url = Url::parse(realm).ok().filter(|url| url.scheme() == "https" || url.scheme() == "http");
        let url = url.ok_or_else(|| {
            let what = "names no token server that could be asked".to_owned();
            self.error(Cause::Unusable { what, help: SEE_LOG })
        })?;
        if url.scheme() == "http" && !self.open && *login != Login::Anonymous {
            let what = format!("wants the login sent to {realm} without TLS");
            let help = "let the registry name its token server by https";
            return Err(self.error(Cause::Unusable { what, help }));
        }
        Ok(url)
    }
}

impl Scope<'_> {
    /// Requests pull and push if there is a login. Without a login, Docker Hub answers a push request for a new
    /// repository with 403.
    fn actions(&self, login: &Login, access: Access) -> Vec<String> {
        let pushes = access == Access::PullAndPush && *login != Login::Anonymous;
        let actions = if pushes { "pull,push" } else { "pull" };
        let own = format!("repository:{}:{actions}", self.repository);
        let beside = self.beside.filter(|beside| *beside != self.repository);
        std::iter::once(own).chain(beside.map(|beside| format!("repository:{beside}:pull"))).collect()
    }
}

/// The delay that a response requests, bounded.
pub(super) fn pause_asked(headers: &HeaderMap) -> Option<Duration> {
    retry_after(headers).map(|asked| within(asked, LONGEST_PAUSE))
}

fn basic(login: &Login) -> Option<HeaderValue> {
    let Login::Password { user, password } = login else { return None };
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let mut header = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// `Bearer realm="…",service="…",scope="…"`.
fn bearer(text: &str) -> Option<Scheme> {
    let (word, mut rest) = text.trim().split_once(' ')?;
    if !word.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service) = (None, None);
    while let Some((name, after)) = rest.split_once('=') {
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        match name.trim_matches([' ', ',']).to_ascii_lowercase().as_str() {
            "realm" => realm = Some(value.to_owned()),
            "service" => service = Some(value.to_owned()),
            _ => {}
        }
        rest = next;
    }
    Some(Scheme::Bearer { realm: realm?, service })
}

/// How long a token is used: 90% of its lifetime, so that it does not expire in transit.
fn life(expires_in: Option<u64>) -> Duration {
    expires_in.map_or(DEFAULT_LIFE, |seconds| Duration::from_secs(seconds).min(LONGEST_LIFE)).mul_f32(0.9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_lives_for_ever_is_asked_for_anew_and_ends_nothing() {
        assert_eq!((life(Some(100)).as_secs(), life(None).as_secs()), (90, 54));
        assert!(Instant::now().checked_add(life(Some(u64::MAX))).is_some());
    }

    #[test]
    fn reads_a_challenge() {
        let text =
            r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#;
        let expected =
            Scheme::Bearer { realm: "https://auth.example/token".into(), service: Some("registry.example".into()) };
        assert!(bearer(text) == Some(expected));
        assert!(
            bearer("bearer realm=https://a/t, x=y")
                == Some(Scheme::Bearer { realm: "https://a/t".into(), service: None })
        );
        assert!(bearer("Basic realm=\"x\"").is_none() && bearer("Bearer service=\"x\"").is_none());
    }

    #[test]
    fn who_has_no_login_or_only_reads_asks_for_less() {
        let scope = Scope { repository: "a/b", beside: Some("a/c") };
        let login = Login::Identity("x".into());
        let pull = ["repository:a/b:pull", "repository:a/c:pull"];
        assert_eq!(scope.actions(&Login::Anonymous, Access::PullAndPush), pull);
        assert_eq!(scope.actions(&login, Access::PullAndPush)[0], "repository:a/b:pull,push");
        assert_eq!(scope.actions(&login, Access::Pull), pull);
    }
}
