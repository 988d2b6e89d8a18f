//! What a registry wants to see before it answers: nothing, the login itself, or a token that its token server gives for
//! it. Not responsible for: sending a login where there is no TLS, unless the registry itself has none.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{StatusCode, Url};
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::super::credentials::{self, Login};
use super::api_error::{ApiError, Faults};
use super::wire::{LIMIT, pause_asked};

/// A token that says nothing of its life lives so long, as the token specification has it.
const LIFE: Duration = Duration::from_secs(60);

/// What is asked for: one repository to be written, another to be read beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scope<'a> {
    pub(super) repository: &'a str,
    pub(super) beside: Option<&'a str>,
}

/// The state of our standing with a registry.
pub(super) struct Auth {
    client: reqwest::Client,
    faults: Faults,
    /// Whether tokens may be fetched without TLS.
    open: bool,
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
    pub(super) fn new(client: reqwest::Client, faults: Faults, open: bool) -> Self {
        Self { client, faults, open, login: OnceCell::new(), known: Mutex::default() }
    }

    #[cfg(test)]
    pub(super) fn log_in(&mut self, login: Login) {
        self.login = OnceCell::new_with(Some(login));
    }

    /// What goes along with a request, as far as the registry has said what it wants.
    pub(super) async fn header(&self, scope: Scope<'_>) -> Result<Option<HeaderValue>, ApiError> {
        let scheme = self.known().scheme.clone();
        match scheme {
            None => Ok(None),
            Some(Scheme::Basic) => Ok(basic(self.login().await)),
            Some(Scheme::Bearer { realm, service }) => {
                let wanted = scope.actions(self.login().await);
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

    /// Learns from a refusal what is wanted. Says whether there is anything to try.
    pub(super) async fn learn(&self, headers: &HeaderMap, scope: Scope<'_>) -> bool {
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
        let key = scope.actions(login).join(" ");
        let mut known = self.known();
        known.tokens.remove(&key);
        known.scheme = Some(scheme);
        true
    }

    /// A refusal that nothing helps against.
    pub(super) async fn unauthorized(&self, repository: &str) -> ApiError {
        let had_login = *self.login().await != Login::Anonymous;
        self.faults.unauthorized(repository, had_login).into()
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looked up when the registry first asks for it: a helper may ask the user something.
    async fn login(&self) -> &Login {
        let host = self.faults.host.clone();
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
        let login = self.login().await;
        let mut url = self.realm(realm, login)?;
        let fields = service.map(|service| ("service", service)).into_iter();
        let request = match login {
            Login::Identity(token) => {
                let joined = wanted.join(" ");
                let own = [
                    ("grant_type", "refresh_token"),
                    ("refresh_token", token),
                    ("client_id", "lian-build"),
                    ("scope", &joined),
                ];
                let form: Vec<(&str, &str)> = fields.chain(own).collect();
                self.client.post(url).form(&form)
            }
            _ => {
                let scopes = wanted.iter().map(|scope| ("scope", scope.as_str()));
                url.query_pairs_mut().extend_pairs(fields.chain(scopes));
                let request = self.client.get(url);
                match basic(login) {
                    Some(header) => request.header(reqwest::header::AUTHORIZATION, header),
                    None => request,
                }
            }
        };
        let sent = tokio::time::timeout(LIMIT, request.send()).await;
        let sent = sent.map_err(|_| ApiError::passing(self.faults.silent("its token server does not answer"), None))?;
        let response = sent.map_err(|error| ApiError::passing(self.faults.unreachable(error), None))?;
        let (status, after) = (response.status(), pause_asked(response.headers()));
        match status {
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(self.unauthorized(repository).await);
            }
            status if !status.is_success() => {
                let passing = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
                return Err(ApiError { error: self.faults.answered(repository, status, b""), passing, after });
            }
            _ => {}
        }
        let read = tokio::time::timeout(LIMIT, response.json::<Token>()).await.ok().and_then(Result::ok);
        let odd = || self.faults.told("has a token server that gives no token", "see the registry's own log");
        let Token { token, access_token, expires_in } = read.ok_or_else(|| ApiError::from(odd()))?;
        let token = if token.is_empty() { access_token } else { token };
        let mut header = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| ApiError::from(odd()))?;
        header.set_sensitive(true);
        // A tenth less: a token must not die on its way.
        let life = expires_in.map_or(LIFE, Duration::from_secs).mul_f32(0.9);
        Ok((header, life))
    }

    /// The token server's address, if the login may go there.
    fn realm(&self, realm: &str, login: &Login) -> Result<Url, ApiError> {
        let url = Url::parse(realm).ok().filter(|url| url.scheme() == "https" || url.scheme() == "http");
        let url = url.ok_or_else(|| {
            ApiError::from(self.faults.told("names no token server that could be asked", "see the registry's own log"))
        })?;
        if url.scheme() == "http" && !self.open && *login != Login::Anonymous {
            let what = format!("wants the login sent to {realm} without TLS");
            return Err(self.faults.told(what, "let the registry name its token server by https").into());
        }
        Ok(url)
    }
}

impl Scope<'_> {
    /// Who has a login asks for all of it at once: Docker Hub tells a stranger that a repository to be made is forbidden.
    fn actions(&self, login: &Login) -> Vec<String> {
        let actions = if *login == Login::Anonymous { "pull" } else { "pull,push" };
        let own = format!("repository:{}:{actions}", self.repository);
        let beside = self.beside.filter(|beside| *beside != self.repository);
        std::iter::once(own).chain(beside.map(|beside| format!("repository:{beside}:pull"))).collect()
    }
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_stranger_asks_for_less() {
        let scope = Scope { repository: "a/b", beside: Some("a/c") };
        assert_eq!(scope.actions(&Login::Anonymous), ["repository:a/b:pull", "repository:a/c:pull"]);
        assert_eq!(scope.actions(&Login::Identity("x".into()))[0], "repository:a/b:pull,push");
    }
}
