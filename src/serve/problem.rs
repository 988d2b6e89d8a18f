//! Error responses: `application/problem+json` (RFC 9457) with `{"error":{code,message,help}}` beside its own members.
//! Not responsible for: removing secrets from the texts.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::ServeError;
use super::fields::FieldFault;
use crate::domain::model::Fault;

/// The content type of all error responses.
pub(super) const KIND: &str = "application/problem+json";

/// An error response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// Stable code for programs.
    pub code: String,
    /// One line for people.
    pub message: String,
    /// What to do next.
    pub help: String,
    /// Value of `Retry-After`, in seconds.
    pub retry_after_s: Option<u64>,
    /// The fields of the body that are wrong.
    pub faults: Vec<FieldFault>,
}

/// An error, as it is sent.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemView {
    /// Names the kind of error: `urn:lian-build:problem:` and its code
    #[serde(rename = "type")]
    #[schema(format = "uri", example = "urn:lian-build:problem:not_found")]
    kind: String,
    /// What the status means
    title: &'static str,
    /// The HTTP status
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// One line for people
    detail: String,
    error: ErrorView,
    /// The fields of the body that are wrong
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<FieldFaultView>,
}

/// The error in lian-build's own words.
#[derive(Serialize, ToSchema)]
#[schema(as = ProblemError)]
struct ErrorView {
    /// A stable code for programs
    #[schema(example = "not_found")]
    code: String,
    /// One line for people
    message: String,
    /// What to do next
    help: String,
}

/// A field that is wrong.
#[derive(Serialize, ToSchema)]
#[schema(as = FieldFault)]
struct FieldFaultView {
    /// Where it stands in the body, as a JSON pointer in a fragment
    #[schema(example = "#/ttl_s")]
    pointer: String,
    /// What is wrong
    detail: String,
}

impl Problem {
    /// A problem that a retry does not solve.
    pub fn new(status: u16, code: &str, message: impl Into<String>, help: impl Into<String>) -> Self {
        let (code, message, help) = (code.to_owned(), message.into(), help.into());
        Self { status, code, message, help, retry_after_s: None, faults: Vec::new() }
    }

    /// Suggests a retry after this many seconds.
    #[must_use]
    pub fn retry(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// A provider's fault: 409 if a retry cannot help, else 503.
    pub fn of_provider(fault: &Fault) -> Self {
        let help = fault.help.clone().unwrap_or_else(|| "ask the pool's operator".to_owned());
        match fault.class().is_refusal() {
            true => Self::new(409, &fault.code, &fault.message, help),
            false => Self::new(503, &fault.code, &fault.message, help).retry(2),
        }
    }

    fn code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn body(&self) -> String {
        let pointer = |field: &str| format!("#/{}", field.replace('~', "~0").replace('/', "~1"));
        let fault = |fault: &FieldFault| FieldFaultView { pointer: pointer(&fault.field), detail: fault.what.clone() };
        let (code, message, help) = (self.code.clone(), self.message.clone(), self.help.clone());
        let view = ProblemView {
            kind: format!("urn:lian-build:problem:{}", self.code),
            title: self.code().canonical_reason().unwrap_or("Error"),
            status: self.status,
            detail: self.message.clone(),
            error: ErrorView { code, message, help },
            errors: self.faults.iter().take(20).map(fault).collect(),
        };
        serde_json::to_string(&view).expect("invariant: a problem is plain data")
    }

    /// The whole answer as it travels, after which the connection ends: for connections that no request is read from.
    pub(super) fn raw(&self) -> Vec<u8> {
        let (status, body) = (self.code(), self.body());
        let retry = self.retry_after_s.map_or_else(String::new, |seconds| format!("retry-after: {seconds}\r\n"));
        let title = status.canonical_reason().unwrap_or("Error");
        let (code, length) = (status.as_u16(), body.len());
        format!(
            "HTTP/1.1 {code} {title}\r\ncontent-type: {KIND}\r\ncontent-length: {length}\r\n{retry}connection: close\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

impl From<ServeError> for Problem {
    /// The log has the cause, for the operator; the caller gets a generic message.
    fn from(error: ServeError) -> Self {
        tracing::error!(error = ?error, "the ledger failed");
        let help = "try again; the pool's operator finds the cause in the service's log";
        Self::new(503, "ledger", "the pool cannot write its ledger", help).retry(5)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.code();
        let mut response = (status, [(header::CONTENT_TYPE, KIND)], self.body()).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // The body may not have been read to its end.
        if matches!(self.status, 408 | 413) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        // For the operator's log.
        response.extensions_mut().insert(self);
        response
    }
}

/// The lease is over.
pub(super) fn gone() -> Problem {
    let message = "the lease was given back, or it ended";
    Problem::new(410, "gone", message, "lease another machine with another idempotency key")
}

/// The lease is being released.
pub(super) fn releasing() -> Problem {
    let message = "what was made for this key is being given back";
    Problem::new(503, "releasing", message, "try again, or choose another idempotency key").retry(2)
}

/// The pool stops.
pub(super) fn stopping() -> Problem {
    Problem::new(503, "stopping", "the pool is being stopped", "try again when it is back").retry(5)
}
