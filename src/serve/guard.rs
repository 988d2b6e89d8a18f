//! What every request passes before it is handled: its caller, what it takes and sends, its body, its place. Not
//! responsible for: what is done for it (`http`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use serde_json::Value;

use super::document::{Contract, OPEN};
use super::log;
use super::pool::Pool;
use super::problem::{KIND, Problem};
use super::seats::{Account, Seat};
use super::slots::{Slot, Slots};
use super::tokens::{Caller, Tokens};

/// Largest request body, in bytes.
pub(super) const BODY_MOST: usize = 64 * 1024;
/// Timeout for reading a request body.
const BODY_BOUND: Duration = Duration::from_secs(10);

/// State shared by all requests.
pub struct App {
    /// The pool of leases.
    pub pool: Arc<Pool>,
    pub(super) document: Value,
    tokens: Tokens,
    slots: Slots,
    contract: Contract,
}

impl App {
    /// An app that serves this pool to the holders of these tokens, as the document says.
    pub(super) fn new(pool: Arc<Pool>, tokens: Tokens, document: Value) -> Arc<Self> {
        let contract = Contract::of(&document);
        Arc::new(Self { pool, document, tokens, slots: Slots::default(), contract })
    }

    /// Lets a request in: with its caller, its place and its whole body.
    async fn admit(&self, request: &mut Request, path: Option<&str>) -> Result<Option<Slot<'_>>, Problem> {
        let seat = request.extensions().get::<Arc<Seat>>().cloned();
        let seat = seat.as_deref();
        if OPEN.contains(&request.uri().path()) {
            acceptable(request.headers(), path)?;
            seat.inspect(|seat| seat.works());
            return Ok(None);
        }
        let caller = self.tokens.caller(text(request.headers(), header::AUTHORIZATION.as_str()))?;
        let account = if self.tokens.is_empty() { Account::Local } else { Account::Token(caller.name.clone()) };
        seat.inspect(|seat| seat.belongs(&account));
        request.extensions_mut().insert(caller);
        if seat.is_some_and(Seat::is_spare) {
            let message = "there are too many connections at once";
            return Err(Problem::new(503, "busy", message, "try again").retry(1));
        }
        let method = request.method().as_str();
        let Some(path) = path.filter(|path| self.contract.knows(method, path)) else {
            // What is not there is not read.
            seat.inspect(|seat| seat.works());
            return Ok(None);
        };
        acceptable(request.headers(), Some(path))?;
        if self.contract.takes_body(method, path) {
            let read = body(request, seat).await?;
            *request.body_mut() = Body::from(read);
        }
        seat.inspect(|seat| seat.works());
        let busy = "the caller has too many requests under way";
        let busy = || Problem::new(429, "busy", busy, "wait for the answers to some of them").retry(1);
        let slot = self.slots.take(&account, request.method(), path).ok_or_else(busy)?;
        request.extensions_mut().insert(slot.patience);
        Ok(Some(slot))
    }
}

/// Answers a request, counts it and writes it down.
pub(super) async fn guard(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let (method, path, began) = (request.method().clone(), request.uri().path().to_owned(), Instant::now());
    let matched = request.extensions().get::<MatchedPath>().map(|matched| matched.as_str().to_owned());
    let admitted = app.admit(&mut request, matched.as_deref()).await;
    let who = request.extensions().get::<Caller>().map(|caller| caller.name.clone()).unwrap_or_default();
    let (response, about) = log::noted(async {
        match admitted {
            Ok(_slot) => next.run(request).await,
            Err(problem) => problem.into_response(),
        }
    })
    .await;
    let status = response.status().as_u16();
    if let Some(matched) = matched.filter(|matched| app.contract.knows(method.as_str(), matched)) {
        debug_assert!(
            app.contract.promises(method.as_str(), &matched, status),
            "{method} {matched}: {status} is not described"
        );
    }
    log::answered(&method, &path, &who, &about, &response, began.elapsed());
    app.pool.metrics.answered(method.as_str(), status);
    response
}

/// A header's value; empty if it is not visible ASCII.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or(""))
}

/// Whether the caller takes what this path answers with.
fn acceptable(headers: &HeaderMap, path: Option<&str>) -> Result<(), Problem> {
    let ours: &[&str] = if path == Some("/metrics") { &["text/plain"] } else { &["application/json", KIND] };
    let mut asked = headers.get_all(header::ACCEPT).iter().map(|value| value.to_str().unwrap_or("")).peekable();
    let takes = |range: &str| {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or("");
        let unwanted =
            parts.any(|part| matches!(part.replace(' ', "").as_str(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        let fits = |kind: &&str| {
            let (group, _) = kind.split_once('/').unwrap_or((kind, ""));
            name == "*/*" || name.eq_ignore_ascii_case(kind) || name.eq_ignore_ascii_case(&format!("{group}/*"))
        };
        !unwanted && ours.iter().any(fits)
    };
    if asked.peek().is_none() || asked.flat_map(|value| value.split(',')).any(takes) {
        return Ok(());
    }
    let message = format!("this path answers with {} only", ours[0]);
    Err(Problem::new(406, "not_acceptable", message, format!("send `Accept: {}`, or none", ours[0])))
}

/// Reads a JSON body to its end, within its bounds. Gives way if others of the same caller wait for a connection.
async fn body(request: &mut Request, seat: Option<&Seat>) -> Result<Bytes, Problem> {
    let headers = request.headers();
    let kind = text(headers, header::CONTENT_TYPE.as_str()).unwrap_or("");
    if !is_json(kind) {
        let message = "the body is not said to be JSON";
        return Err(Problem::new(415, "media_type", message, "send `Content-Type: application/json`"));
    }
    let too_large = || Problem::new(413, "too_large", "the body is longer than 64 KiB", "send less");
    let length = text(headers, header::CONTENT_LENGTH.as_str()).and_then(|length| length.parse::<u64>().ok());
    if length.is_some_and(|length| length > BODY_MOST as u64) {
        return Err(too_large());
    }
    let mut frames = std::mem::take(request.body_mut()).into_data_stream();
    let read = async {
        let mut bytes = Vec::new();
        while let Some(frame) = frames.next().await {
            let frame = frame.map_err(|_| {
                Problem::new(400, "malformed", "the body broke off, or its chunks make no sense", "send it again")
            })?;
            if bytes.len() + frame.len() > BODY_MOST {
                return Err(too_large());
            }
            bytes.extend_from_slice(&frame);
        }
        Ok(Bytes::from(bytes))
    };
    let dismissed = async {
        match seat {
            Some(seat) => seat.dismissed().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        read = tokio::time::timeout(BODY_BOUND, read) => read.unwrap_or_else(|_| {
            Err(Problem::new(408, "slow", "the body did not come within 10 s", "send it again"))
        }),
        () = dismissed => Err(Problem::new(408, "slow", "the body came too slowly, and others waited", "send it again")),
    }
}

/// `application/json`; its text is always UTF-8.
fn is_json(kind: &str) -> bool {
    let (name, parameters) = kind.split_once(';').unwrap_or((kind, ""));
    let charset = parameters.split(';').map(str::trim).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    });
    name.trim().eq_ignore_ascii_case("application/json")
        && charset.is_none_or(|charset| charset.eq_ignore_ascii_case("utf-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_known_by_its_name() {
        for kind in ["application/json", "Application/JSON; charset=utf-8", "application/json;charset=\"UTF-8\"; x=y"] {
            assert!(is_json(kind), "{kind}");
        }
        for kind in
            ["", "text/plain", "application/json-seq", "application/xml", "application/json; charset=latin1", "json"]
        {
            assert!(!is_json(kind), "{kind}");
        }
    }

    #[test]
    fn an_answer_that_nobody_takes_is_refused() {
        let takes = |accept: &[&str], path: &str| {
            let headers = accept.iter().map(|value| (header::ACCEPT, value.parse().expect("a header")));
            acceptable(&headers.collect(), Some(path)).is_ok()
        };
        assert!(takes(&[], "/x") && takes(&["*/*"], "/x") && takes(&["text/html, application/*;q=0.8"], "/x"));
        assert!(takes(&["text/html", "application/json"], "/x") && takes(&["text/plain;version=0.0.4"], "/metrics"));
        assert!(!takes(&["text/html"], "/x") && !takes(&["application/json;q=0"], "/x") && !takes(&[""], "/x"));
        assert!(!takes(&["application/json"], "/metrics"));
    }
}
