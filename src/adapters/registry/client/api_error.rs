//! Errors of requests to a registry, as messages for users. Not responsible for: retries.

use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;

use crate::domain::ports::ImageStoreError;
use crate::system::error_chain::innermost;
use crate::system::peer::Lost;
use crate::system::retry::{Retry, not_waited_for};

/// A request to a registry failed.
#[derive(Debug)]
pub(in super::super) struct ApiError {
    /// `host[:port]`.
    pub(in super::super) registry: String,
    /// Why.
    pub(in super::super) cause: Cause,
}

/// Why a request failed.
#[derive(Debug)]
pub(in super::super) enum Cause {
    /// No response, for this reason.
    Unreachable(String),
    /// Nothing came in time; whether to ask once more.
    Silent(Retry),
    /// The same of its token server.
    SilentTokens(Retry),
    /// 401, with or without a login.
    Unauthorized {
        /// What was requested.
        repository: String,
        /// Whether a login was available.
        had_login: bool,
    },
    /// Any other unexpected response.
    Refused {
        /// What was requested.
        repository: String,
        /// The HTTP status.
        status: StatusCode,
        /// The registry's own message, in parentheses; empty if it sent none.
        message: String,
        /// The delay that the registry requests before a retry.
        retry_after: Option<Duration>,
    },
    /// The content does not match the requested digest.
    DigestMismatch(String),
    /// The response breaks the protocol, or the content is not an image.
    Unusable {
        /// What is wrong.
        what: String,
        /// The next action.
        help: &'static str,
    },
    /// A file to upload cannot be read.
    File(ImageStoreError),
}

/// How much of a registry's own words is repeated.
const MESSAGE_CHARS: usize = 500;

#[derive(Deserialize)]
struct ErrorList {
    #[serde(default)]
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Cause {
    /// There was no response.
    pub(super) fn unreachable(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Unreachable(innermost(error))
    }

    /// An unexpected response, with its body.
    pub(super) fn refused(repository: &str, status: StatusCode, body: &[u8]) -> Self {
        let words = serde_json::from_slice::<ErrorList>(body).ok().map(|list| {
            let line = |entry: ErrorEntry| format!("{} {}", entry.code, entry.message).trim().to_owned();
            let words = list.errors.into_iter().map(line).collect::<Vec<_>>().join("; ");
            words.chars().take(MESSAGE_CHARS).collect::<String>()
        });
        let words = words.filter(|words| !words.is_empty());
        let message = words.map_or_else(String::new, |words| format!(" ({words})"));
        Self::Refused { repository: repository.to_owned(), status, message, retry_after: None }
    }

    /// The same, with the retry delay that the registry requests.
    pub(super) fn retry_after(mut self, pause: Option<Duration>) -> Self {
        if let Self::Refused { retry_after, .. } = &mut self {
            *retry_after = pause;
        }
        self
    }

    /// Whether a retry a few seconds later may succeed.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Silent(_) | Self::SilentTokens(_) => true,
            Self::Refused { status, .. } => is_busy(*status),
            _ => false,
        }
    }
}

impl From<Lost> for Cause {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Silent { .. } | Lost::Slow => Self::Silent(lost.retry()),
            lost => Self::unreachable(&lost),
        }
    }
}

/// Whether this status is usually temporary.
pub(super) fn is_busy(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

/// As an image store error: `registry.address` in the workflow names the registry.
impl From<ApiError> for ImageStoreError {
    fn from(ApiError { registry, cause }: ApiError) -> Self {
        let login =
            if registry == "docker.io" { "docker login".to_owned() } else { format!("docker login {registry}") };
        let (what, help) = match cause {
            Cause::File(error) => return error,
            Cause::Unreachable(why) => unreachable(&why),
            Cause::Silent(_) => silent("does not answer"),
            Cause::SilentTokens(_) => silent("has a token server that does not answer"),
            Cause::Unauthorized { repository, had_login } => {
                let what = if had_login { "does not accept the login for" } else { "requires a login for" };
                (format!("{what} {repository}"), format!("log in: {login}"))
            }
            Cause::Refused { repository, status, message, retry_after } => {
                let answer = format!("{}{message}{}", status.as_u16(), not_waited_for(retry_after));
                refused(&repository, status, &answer, &login)
            }
            Cause::DigestMismatch(place) => (
                format!("sent content that does not match its digest: {place}"),
                "somebody or something changed it in the registry: delete it there, then build it again".to_owned(),
            ),
            Cause::Unusable { what, help } => (what, help.to_owned()),
        };
        Self::Remote { registry, what, help }
    }
}

fn silent(what: &str) -> (String, String) {
    (
        format!("{what}: it takes the connection, and nothing comes"),
        "check whether it runs, and what stands between here and it (a proxy, a firewall); then run it again"
            .to_owned(),
    )
}

fn unreachable(why: &str) -> (String, String) {
    // rustls reports this when the server does not speak TLS.
    if why.contains("InvalidContentType") {
        return (
            format!("seems to speak plain HTTP, and was asked over TLS: {why}"),
            "say so: `plain_http = true` in the workflow's `registry`, or `--plain-http` for `lian-build dispatch`"
                .to_owned(),
        );
    }
    (
        format!("cannot be reached: {why}"),
        "check the network and `registry.address` in the workflow; a registry without TLS needs `plain_http = true`"
            .to_owned(),
    )
}

fn refused(repository: &str, status: StatusCode, answer: &str, login: &str) -> (String, String) {
    match status {
        StatusCode::FORBIDDEN => (
            format!("denies access to {repository}: {answer}"),
            format!(
                "the account that `{login}` left needs the right to pull and push there; or name another \
                 `registry.address` in the workflow"
            ),
        ),
        StatusCode::NOT_FOUND => (
            format!("has no {repository}: {answer}"),
            "make its project first where the registry requires one (Harbor does), or correct `registry.address`"
                .to_owned(),
        ),
        StatusCode::METHOD_NOT_ALLOWED => (
            format!("refuses writes to {repository}: is it read-only? {answer}"),
            "name a registry that takes pushes in `registry.address`: a mirror or a cache takes none".to_owned(),
        ),
        status if is_busy(status) => (
            format!("failed to answer for {repository}: {answer}"),
            "it was asked several times; try again when it has recovered".to_owned(),
        ),
        _ => (
            format!("refuses a request for {repository}: {answer}"),
            "check the registry's log; `RUST_LOG=debug` shows what it was asked".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_names_the_way_out() {
        let told = |cause| ImageStoreError::from(ApiError { registry: "host:5000".into(), cause });
        let help = |error: &ImageStoreError| miette::Diagnostic::help(error).expect("help").to_string();
        let login = told(Cause::Unauthorized { repository: "a/b".into(), had_login: false });
        assert_eq!(
            (login.to_string().as_str(), help(&login).as_str()),
            ("host:5000 requires a login for a/b", "log in: docker login host:5000")
        );
        let answered = |status, body: &[u8]| told(Cause::refused("a/b", status, body));
        let denied = answered(StatusCode::FORBIDDEN, br#"{"errors":[{"code":"DENIED","message":"no rights"}]}"#);
        assert_eq!(denied.to_string(), "host:5000 denies access to a/b: 403 (DENIED no rights)");
        assert!(help(&denied).contains("docker login host:5000"));
        let silent = |why: &str| told(Cause::Unreachable(why.into()));
        let plain = silent("error sending request: received corrupt message of type InvalidContentType");
        assert!(plain.to_string().contains("seems to speak plain HTTP"), "{plain}");
        assert!(help(&plain).contains("`plain_http = true`") && help(&plain).contains("`--plain-http`"));
        assert!(!silent("connection refused").to_string().contains("plain HTTP"));
        assert!(help(&answered(StatusCode::NOT_FOUND, b"<html>")).contains("Harbor"));
        let mirror = answered(StatusCode::METHOD_NOT_ALLOWED, b"");
        assert!(mirror.to_string().contains("refuses writes to a/b: is it read-only?"), "{mirror}");
        assert!(answered(StatusCode::BAD_GATEWAY, b"").to_string().ends_with(": 502"));
    }
}
