//! Classifies a pool's responses: final, quota used up, or worth retrying. Not responsible for: sending requests.

use std::path::Path;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;

use crate::domain::base::shown;
use crate::domain::model::{Fault, FaultKind};
use crate::system::http::redirect_words;
use crate::system::retry::{Retry, not_waited_for};

/// Help text: where the token is read from.
pub(super) const TOKEN_HELP: &str = "set LIAN_POOL_TOKEN, or name its file in LIAN_POOL_TOKEN_FILE";

/// Help text for a service that does not answer.
pub(super) const SERVICE_HELP: &str =
    "check whether the service runs and `providers.vm_pool.endpoint` is its address; then run it again";

/// Why a request failed.
pub(super) enum Refusal {
    /// Retrying would not help.
    Final(Fault),
    /// There is no such lease.
    Absent(Fault),
    /// The quota is used up.
    Full(Fault, Duration),
    /// The service says nothing; whether to ask once more.
    Silent(Fault, Retry),
    /// Retrying may help, after the delay that the service may specify.
    Passing(Fault, Option<Duration>),
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Final(fault) | Refusal::Absent(fault) | Refusal::Silent(fault, _) => fault,
            Refusal::Full(fault, _) | Refusal::Passing(fault, _) => fault,
        }
    }
}

pub(super) fn refusal(status: StatusCode, body: &Value, after: Option<Duration>) -> Refusal {
    let said = |field: &str| {
        let text = body["error"][field].as_str().unwrap_or("");
        shown(&text.chars().take(500).collect::<String>())
    };
    let message = match (said("message"), said("code")) {
        (message, _) if message.is_empty() => {
            let redirect = redirect_words(status.as_u16()).map_or_else(String::new, |words| format!(": {words}"));
            format!("the pool answered {status}{redirect}")
        }
        (message, code) => format!("the pool answered {}: {message} ({code})", status.as_u16()),
    };
    let message = format!("{message}{}", not_waited_for(after));
    let or = |help: &str| if said("help").is_empty() { help.to_owned() } else { said("help") };
    let operator = "ask the pool's operator";
    match status {
        StatusCode::UNAUTHORIZED => Refusal::Final(denied("unauthorized", message, TOKEN_HELP)),
        StatusCode::FORBIDDEN => Refusal::Final(denied("forbidden", message, or(operator))),
        StatusCode::TOO_MANY_REQUESTS => {
            let fault = infrastructure("quota", message, or("give leases back, or raise the pool's --max-leases"));
            Refusal::Full(fault, after.unwrap_or(Duration::from_secs(15)))
        }
        StatusCode::UNPROCESSABLE_ENTITY if message.contains("ttl_s: ") => {
            let help = "lower `runners.max_lifetime_min` in the workflow, or raise the pool's --max-ttl-s";
            Refusal::Final(configuration("ttl", message, help))
        }
        StatusCode::NOT_FOUND => Refusal::Absent(unavailable("refused", message, or(operator))),
        StatusCode::NOT_IMPLEMENTED => Refusal::Final(unavailable("refused", message, or(operator))),
        StatusCode::REQUEST_TIMEOUT => Refusal::Passing(infrastructure("pool", message, or(operator)), after),
        status if status.is_server_error() => Refusal::Passing(infrastructure("pool", message, or(operator)), after),
        _ => Refusal::Final(unavailable("refused", message, or(operator))),
    }
}

pub(super) fn unavailable(cause: &str, message: impl Into<String>, help: impl Into<String>) -> Fault {
    Fault::new(FaultKind::Unavailable, &format!("lian::vm_pool::{cause}"), message).help(help)
}

pub(super) fn configuration(cause: &str, message: impl Into<String>, help: impl Into<String>) -> Fault {
    Fault::configuration(&format!("lian::vm_pool::{cause}"), message).help(help)
}

pub(super) fn denied(cause: &str, message: impl Into<String>, help: impl Into<String>) -> Fault {
    Fault::denied(&format!("lian::vm_pool::{cause}"), message).help(help)
}

pub(super) fn infrastructure(cause: &str, message: impl Into<String>, help: impl Into<String>) -> Fault {
    Fault::new(FaultKind::Infrastructure, &format!("lian::vm_pool::{cause}"), message).help(help)
}

/// The service says nothing. One that says nothing at all is not asked for another machine either.
pub(super) fn silent(endpoint: &str, retry: Retry) -> Refusal {
    let message = format!("the pool at {endpoint} does not answer: it takes the connection, and nothing comes");
    let kind = if retry == Retry::Never { FaultKind::Unavailable } else { FaultKind::Infrastructure };
    Refusal::Silent(Fault::new(kind, "lian::vm_pool::silent", message).help(SERVICE_HELP), retry)
}

pub(super) fn not_for(workspace: &str, endpoint: &str) -> Fault {
    let message =
        format!("the token is not for the workspace `{workspace}`: the pool at {endpoint} does not show its leases");
    denied("forbidden", message, "use a token of that workspace, or ask the pool's operator to add it to this one")
}

pub(super) fn strange(endpoint: &str, what: &str) -> Fault {
    let help = "check whether `providers.vm_pool.endpoint` is the address of a `lian-build serve` of this version";
    unavailable("answer", format!("the service at {endpoint} answers what no pool does: {what}"), help)
}

pub(super) fn unwritable(path: &Path, error: &std::io::Error) -> Fault {
    let message = format!("{} cannot be used: {error}", path.display());
    unavailable("keys", message, "make lian-build's data folder writable, or set LIAN_DATA_DIR to another one")
}
