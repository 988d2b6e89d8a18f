//! Classifies API errors and turns them into faults for users. Not responsible for: retrying (`api` does).

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::domain::model::{Fault, FaultClass, FaultKind};
use crate::system::http::redirect_words;
use crate::system::retry::{Retry, not_waited_for};

/// How much of the API's own words is repeated.
pub(super) const MESSAGE_CHARS: usize = 500;

/// Why an API request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ApiError {
    /// The API refused the request.
    Refused {
        /// HTTP status.
        status: u16,
        /// API error code, e.g. `uniqueness_error`; empty if a proxy answered.
        code: String,
        /// API error message.
        message: String,
        /// Delay that the API asks for.
        wait: Option<Duration>,
    },
    /// No response, or an unreadable one: the request may have taken effect.
    Lost(String),
    /// Nothing came in time: the request may have taken effect. Whether to ask once more.
    Silent(Retry),
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { status, code, message, wait } if code.is_empty() => {
                write!(f, "{message} (HTTP {status}){}", not_waited_for(*wait))
            }
            Self::Refused { code, message, wait, .. } => write!(f, "{message} ({code}){}", not_waited_for(*wait)),
            Self::Lost(what) => f.write_str(what),
            Self::Silent(_) => f.write_str("it takes the connection and does not answer"),
        }
    }
}

impl ApiError {
    /// Parses an unsuccessful response.
    pub(super) fn from_answer(status: u16, body: &[u8], wait: Option<Duration>) -> Self {
        let value: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let said = |key: &str| value["error"][key].as_str().unwrap_or("").trim().chars();
        let text = |key: &str| said(key).take(MESSAGE_CHARS).collect::<String>();
        let (code, message) = (text("code"), text("message"));
        let without = || redirect_words(status).unwrap_or("it failed without a message").to_owned();
        let message = if message.is_empty() { without() } else { message };
        Self::Refused { status, code, message, wait }
    }

    pub(super) fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused { code, .. } if code == wanted)
    }

    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// Whether this type is currently unavailable in this location.
    pub(super) fn is_sold_out(&self) -> bool {
        match self {
            Self::Refused { code, message, .. } => match code.as_str() {
                "resource_unavailable" | "placement_error" => true,
                "invalid_input" => message.contains("unsupported location"),
                _ => false,
            },
            Self::Lost(_) | Self::Silent(_) => false,
        }
    }

    /// Whether the request may have taken effect anyway.
    pub(super) fn may_have_worked(&self) -> bool {
        match self {
            Self::Lost(_) | Self::Silent(_) => true,
            Self::Refused { status, code, .. } => *status >= 500 || matches!(code.as_str(), "server_error" | "timeout"),
        }
    }

    /// Whether to retry.
    pub(super) fn retry(&self) -> Retry {
        let (status, code, wait) = match self {
            Self::Refused { status, code, wait, .. } => (status, code, wait),
            Self::Silent(retry) => return *retry,
            Self::Lost(_) => return Retry::Counted(None),
        };
        match (code.as_str(), *status) {
            ("rate_limit_exceeded" | "conflict" | "locked", _) => Retry::Uncounted(*wait),
            (
                "bad_gateway"
                | "timeout"
                | "server_error"
                | "service_error"
                | "maintenance"
                | "resource_unavailable"
                | "placement_error"
                | "uniqueness_error",
                _,
            ) => Retry::Counted(*wait),
            // Returned by a proxy in front of the API.
            ("", 429) => Retry::Uncounted(*wait),
            (_, 408 | 500..) => Retry::Counted(*wait),
            _ => Retry::Never,
        }
    }

    /// The fault for users: what was attempted (`rent a server`), why it failed, and what to do.
    pub(super) fn into_fault(self, wanted: &str) -> Fault {
        let Self::Refused { status, code, .. } = &self else {
            let message = format!("Hetzner Cloud cannot be reached to {wanted}: {self}");
            // Whoever says nothing at all for that long is not asked for another server either.
            let is_silent = matches!(self, Self::Silent(Retry::Never));
            let kind = if is_silent { FaultKind::Unavailable } else { FaultKind::Infrastructure };
            return Fault::new(kind, "lian::hcloud::unreachable", message)
                .help("check the network, HCLOUD_ENDPOINT and https://status.hetzner.com, then run it again");
        };
        let (class, cause, help) = match (code.as_str(), *status) {
            ("unauthorized", _) | ("", 401) => (
                FaultClass::Denied,
                "unauthorized",
                "HCLOUD_TOKEN is not a project's token, or was deleted: make a new one in the Hetzner console \
                 (project > Security > API tokens)",
            ),
            ("token_readonly", _) => (
                FaultClass::Denied,
                "token_readonly",
                "HCLOUD_TOKEN may only read: make one with read and write permission in the Hetzner console",
            ),
            ("resource_limit_exceeded", _) => (
                FaultClass::Denied,
                "limit",
                "give servers back, lower `runners.max_leases`, or ask for a higher limit in the \
                 Hetzner console",
            ),
            ("forbidden", _) | ("", 403) => {
                (FaultClass::Denied, "forbidden", "check what the token and the project may do in the Hetzner console")
            }
            ("protected", _) => {
                (FaultClass::Denied, "protected", "remove its protection in the Hetzner console, then run it again")
            }
            _ if self.retry() == Retry::Never => (
                FaultClass::Unavailable,
                "refused",
                "check `providers.hcloud` in the workflow against what the API says",
            ),
            _ => (FaultClass::Infrastructure, "unavailable", "see https://status.hetzner.com, then run it again"),
        };
        let message = format!("Hetzner Cloud refuses to {wanted}: {self}");
        let kind = if class.is_refusal() { FaultKind::Unavailable } else { FaultKind::Infrastructure };
        Fault::new(kind, &format!("lian::hcloud::{cause}"), message).with_class(class).help(help)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, code: &str) -> ApiError {
        let body = serde_json::json!({"error": {"code": code, "message": "words"}}).to_string();
        ApiError::from_answer(status, body.as_bytes(), None)
    }

    #[test]
    fn what_passes_is_waited_for_and_what_does_not_is_told() {
        let (passes, some, none) = (Retry::Uncounted(None), Retry::Counted(None), Retry::Never);
        for (status, code, retry) in [
            (409, "conflict", passes),
            (423, "locked", passes),
            (429, "rate_limit_exceeded", passes),
            (502, "bad_gateway", some),
            (504, "timeout", some),
            (500, "server_error", some),
            (403, "resource_limit_exceeded", none),
            (401, "unauthorized", none),
            (403, "forbidden", none),
            (403, "token_readonly", none),
            (422, "invalid_input", none),
        ] {
            assert_eq!(refused(status, code).retry(), retry, "{code}");
        }
        assert_eq!(ApiError::Silent(Retry::Once).retry(), Retry::Once);
        assert_eq!(ApiError::from_answer(502, b"<html>", None).retry(), some);
        assert_eq!(ApiError::from_answer(400, b"<html>", None).retry(), none);
    }

    #[test]
    fn a_fault_names_code_words_and_the_next_action() {
        let fault = refused(403, "token_readonly").into_fault("rent a server");
        assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Unavailable, "lian::hcloud::token_readonly"));
        assert_eq!(fault.message, "Hetzner Cloud refuses to rent a server: words (token_readonly)");
        assert!(fault.help.expect("help").contains("read and write"));
        assert_eq!(refused(500, "server_error").into_fault("x").kind, FaultKind::Infrastructure);
        assert_eq!(ApiError::Lost("reset".into()).into_fault("x").code, "lian::hcloud::unreachable");
    }

    #[test]
    fn who_may_not_is_denied_and_an_api_that_fails_may_do_better_next_time() {
        use FaultClass::{Denied, Infrastructure, Unavailable};
        let table = [
            (401, "unauthorized", Denied),
            (401, "", Denied),
            (403, "token_readonly", Denied),
            (403, "forbidden", Denied),
            (403, "resource_limit_exceeded", Denied),
            (422, "invalid_input", Unavailable),
            (412, "resource_unavailable", Infrastructure),
            (500, "server_error", Infrastructure),
            (503, "", Infrastructure),
        ];
        for (status, code, class) in table {
            assert_eq!(refused(status, code).into_fault("x").class(), class, "{status} {code}");
        }
        assert_eq!(ApiError::Lost("reset".into()).into_fault("x").class(), Infrastructure);
        assert_eq!(ApiError::Silent(Retry::Once).into_fault("x").class(), Infrastructure);
        assert_eq!(ApiError::Silent(Retry::Never).into_fault("x").class(), Unavailable);
    }
}
