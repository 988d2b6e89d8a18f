//! HTTP around the API: tokens, budgets, faults, the log. Not responsible for: knowing what is asked.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::Instant;

use axum::body::{Body, to_bytes};
use axum::extract::{Query, Request, State};
use axum::response::Response;
use lian_build::domain::base::Timestamp;
use lian_build::system::http::http_date;
use serde_json::{Value, json};
use tokio::sync::oneshot::Receiver;

use super::api::{Answer, Asked};
use super::faults::Kind;
use super::rules::refuse;
use super::state::{Budget, seconds};
use super::{READ_ONLY, RENEWED, Seen, Shared, TOKEN, locked};

/// Serves until it is stopped.
pub(super) fn run(shared: Arc<Shared>, told: &Sender<u16>, stopped: Receiver<()>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        told.send(listener.local_addr().expect("an address").port()).expect("somebody waits");
        let router = axum::Router::new().fallback(handle).with_state(shared);
        tokio::select! {
            served = axum::serve(listener, router) => served.expect("served"),
            _ = stopped => {}
        }
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(10));
}

async fn handle(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let _busy = Busy::new(&shared);
    let (parts, body) = request.into_parts();
    let bytes = to_bytes(body, 1 << 20).await.unwrap_or_default();
    let query = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri).map(|query| query.0).unwrap_or_default();
    let path = parts.uri.path().strip_prefix("/v1/").unwrap_or("").split('/').map(str::to_owned).collect();
    let parsed = if bytes.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&bytes) };
    let is_json = parsed.is_ok();
    let mut asked = Asked { method: parts.method.to_string(), path, query, body: parsed.unwrap_or_default() };
    let what = asked.what();
    let seen = Seen { what: what.clone(), query: asked.query.clone(), at: Instant::now() };
    locked(&shared.seen).push(seen);
    let fault = locked(&shared.faults).next(&what);
    match fault {
        Some(Kind::LostRequest) => close(),
        Some(Kind::Status(status, code)) => {
            return respond(&shared, Err(refuse(status, code, "a fault on demand")), Some(Budget::LIMIT), None);
        }
        Some(Kind::Unfiltered) => asked.query.retain(|(key, _)| key != "label_selector"),
        Some(Kind::Limited(seconds)) => return respond(&shared, limited(), None, Some(seconds)),
        _ => {}
    }
    let token = parts.headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let left = locked(&shared.world).budget.take();
    let answer = if left.is_none() {
        limited()
    } else if token.is_none_or(|token| ![TOKEN, RENEWED, READ_ONLY].contains(&token)) {
        Err(refuse(401, "unauthorized", "unable to authenticate"))
    } else if token == Some(READ_ONLY) && asked.method != "GET" {
        Err(refuse(403, "token_readonly", "API token is only allowed to perform read actions"))
    } else if !is_json {
        Err(refuse(400, "json_error", "invalid JSON input"))
    } else {
        // Machines boot here, which takes its time.
        let (inside, busy) = (Arc::clone(&shared), Busy::new(&shared));
        let work = move || {
            // It goes on though nobody waits for it.
            let _busy = busy;
            inside.answer(&asked)
        };
        tokio::task::spawn_blocking(work).await.expect("an answer")
    };
    match fault {
        Some(Kind::LostAnswer) => close(),
        Some(Kind::Hang) => std::future::pending().await,
        _ => respond(&shared, answer, left, None),
    }
}

/// Counts a request for as long as it is being answered.
struct Busy(Arc<Shared>);

impl Busy {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.busy.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(shared))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Ends this connection's task, and with it the connection, without a word to anybody.
fn close() -> ! {
    std::panic::resume_unwind(Box::new("the connection is closed on demand"))
}

fn limited() -> Answer {
    Err(refuse(429, "rate_limit_exceeded", "rate limit exceeded"))
}

fn respond(shared: &Shared, answer: Answer, left: Option<f64>, reset: Option<u64>) -> Response {
    let (status, body) = match answer {
        Ok(answer) => answer,
        Err(no) => (no.status, json!({"error": {"code": no.code, "message": no.message, "details": null}})),
    };
    let seconds = seconds(locked(&shared.world).clock);
    let date = Timestamp(u64::try_from(seconds).expect("after 1970") * 1000);
    #[expect(clippy::cast_precision_loss, reason = "seconds")]
    let now = seconds as f64;
    let left = left.unwrap_or(0.0);
    // The time at which the whole budget is back.
    let reset =
        reset.map_or(now + Budget::LIMIT - left, |seconds| now + f64::from(u32::try_from(seconds).expect("small")));
    let builder = Response::builder()
        .status(status)
        .header("RateLimit-Limit", "3600")
        .header("RateLimit-Remaining", format!("{left:.0}"))
        .header("RateLimit-Reset", format!("{reset:.0}"))
        .header("Date", http_date(date).expect("a date"))
        .header("X-Correlation-Id", "fake");
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    builder.header("Content-Type", "application/json").body(body).expect("a response")
}
