//! Error responses: a status and `{"error":{code,message,help}}`. Not responsible for: removing secrets from the
//! texts.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::error::ServeError;
use crate::domain::model::Fault;

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
}

impl Problem {
    /// A problem that a retry does not solve.
    pub fn new(status: u16, code: &str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into(), help: help.into(), retry_after_s: None }
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
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = json!({ "error": { "code": self.code, "message": self.message, "help": self.help } });
        let mut response = (status, Json(body)).into_response();
        // For the operator's log.
        response.extensions_mut().insert(self.clone());
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
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
