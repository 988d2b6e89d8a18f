//! What a registry's refusals mean to a person. Not responsible for: trying again (`wire` does).

use reqwest::StatusCode;
use serde::Deserialize;

use crate::domain::ports::ImageStoreError;
use crate::system::error_chain::innermost;

/// A request failed.
#[derive(Debug)]
pub(super) struct ApiError {
    /// What is told when it stays so.
    pub(super) error: ImageStoreError,
    /// Whether it may pass: seconds later it could be otherwise.
    pub(super) passing: bool,
    /// How long the registry asks to be left alone.
    pub(super) after: Option<std::time::Duration>,
}

impl From<ImageStoreError> for ApiError {
    fn from(error: ImageStoreError) -> Self {
        Self { error, passing: false, after: None }
    }
}

impl ApiError {
    /// The same, worth another try.
    pub(super) fn passing(error: ImageStoreError, after: Option<std::time::Duration>) -> Self {
        Self { error, passing: true, after }
    }
}

/// The errors of one registry.
#[derive(Debug, Clone)]
pub(super) struct Faults {
    /// `host[:port]`.
    pub(super) host: String,
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    errors: Vec<ApiErrorEntry>,
}

#[derive(Deserialize)]
struct ApiErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Faults {
    /// An error with the next action.
    pub(super) fn told(&self, what: impl Into<String>, help: impl Into<String>) -> ImageStoreError {
        ImageStoreError::Remote { registry: self.host.clone(), what: what.into(), help: help.into() }
    }

    /// No answer.
    pub(super) fn unreachable(&self, error: reqwest::Error) -> ImageStoreError {
        // The outer errors only repeat the address.
        self.silent(&innermost(&error.without_url()))
    }

    /// No answer, and why.
    pub(super) fn silent(&self, why: &str) -> ImageStoreError {
        // What rustls makes of an answer that is no TLS at all.
        if why.contains("InvalidContentType") {
            return self.told(
                format!("seems to speak plain HTTP, and was asked over TLS: {why}"),
                "say so: `plain_http = true` in the workflow's `registry`, or `--plain-http` for `lian-build dispatch`",
            );
        }
        self.told(
            format!("cannot be reached: {why}"),
            "check the network and `registry.address` in the workflow; a registry without TLS needs `plain_http = true`",
        )
    }

    /// 401, whatever was tried.
    pub(super) fn unauthorized(&self, repository: &str, had_login: bool) -> ImageStoreError {
        let what = if had_login { "does not accept the login for" } else { "wants a login for" };
        self.told(format!("{what} {repository}"), format!("log in: {}", self.login()))
    }

    /// Any other answer that is not what was hoped for.
    pub(super) fn answered(&self, repository: &str, status: StatusCode, body: &[u8]) -> ImageStoreError {
        let said = serde_json::from_slice::<Envelope>(body).ok().map(|envelope| {
            let line = |said: ApiErrorEntry| format!("{} {}", said.code, said.message).trim().to_owned();
            envelope.errors.into_iter().map(line).collect::<Vec<_>>().join("; ")
        });
        let said = said.filter(|said| !said.is_empty()).map_or_else(String::new, |said| format!(" ({said})"));
        let answer = format!("{}{said}", status.as_u16());
        match status {
            StatusCode::FORBIDDEN => self.told(
                format!("denies access to {repository}: {answer}"),
                format!(
                    "the account that `{}` left needs the right to pull and push there; or name another \
                     `registry.address` in the workflow",
                    self.login()
                ),
            ),
            StatusCode::NOT_FOUND => self.told(
                format!("knows no {repository}: {answer}"),
                "make its project first where the registry wants one (Harbor does), or correct `registry.address`",
            ),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => self.told(
                format!("is not able to answer for {repository}: {answer}"),
                "it was asked several times; try again when it has recovered",
            ),
            _ => self.told(
                format!("refuses a request for {repository}: {answer}"),
                "see the registry's own log; `RUST_LOG=debug` shows what it was asked",
            ),
        }
    }

    /// Content that is not what its digest says.
    pub(super) fn tampered(&self, place: &str) -> ImageStoreError {
        self.told(
            format!("sends something else than its digest says: {place}"),
            "somebody or something changed it in the registry: delete it there, then build it again",
        )
    }

    fn login(&self) -> String {
        if self.host == "docker.io" { "docker login".to_owned() } else { format!("docker login {}", self.host) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_names_the_way_out() {
        let faults = Faults { host: "host:5000".into() };
        let help = |error: &ImageStoreError| miette::Diagnostic::help(error).expect("help").to_string();
        let login = faults.unauthorized("a/b", false);
        assert_eq!(
            (login.to_string().as_str(), help(&login).as_str()),
            ("host:5000 wants a login for a/b", "log in: docker login host:5000")
        );
        let body = br#"{"errors":[{"code":"DENIED","message":"no rights"}]}"#;
        let denied = faults.answered("a/b", StatusCode::FORBIDDEN, body);
        assert_eq!(denied.to_string(), "host:5000 denies access to a/b: 403 (DENIED no rights)");
        assert!(help(&denied).contains("docker login host:5000"));
        let plain = faults.silent("error sending request: received corrupt message of type InvalidContentType");
        assert!(plain.to_string().contains("seems to speak plain HTTP"), "{plain}");
        assert!(help(&plain).contains("`plain_http = true`") && help(&plain).contains("`--plain-http`"));
        assert!(!faults.silent("connection refused").to_string().contains("plain HTTP"));
        assert!(help(&faults.answered("a/b", StatusCode::NOT_FOUND, b"<html>")).contains("Harbor"));
        assert!(faults.answered("a/b", StatusCode::BAD_GATEWAY, b"").to_string().ends_with(": 502"));
    }
}
