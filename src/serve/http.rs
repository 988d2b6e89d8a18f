//! HTTP routes: authentication, parsing and responses. Not responsible for: decisions about leases (`pool`).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Bytes, to_bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state, map_response_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::log;
use super::machine::{KeyIn, Row, read_key};
use super::openapi;
use super::pool::{Leased, Pool};
use super::problem::Problem;
use super::request::{read_renewal, read_wish};
use super::slots::{Patience, Slot, Slots};
use super::tokens::{Caller, Tokens};
use crate::domain::base::LeaseId;
use crate::system::http::http_date;

/// Largest request body, in bytes.
const BODY_MOST: usize = 64 * 1024;
/// Timeout for reading a request body.
const BODY_BOUND: Duration = Duration::from_secs(30);
/// Timeout for listing offers.
const OFFERS_BOUND: Duration = Duration::from_secs(60);
/// Paths that need no token: they expose no data of a caller.
const OPEN: [&str; 2] = ["/healthz", openapi::PATH];

/// State shared by all requests.
pub struct App {
    /// The pool of leases.
    pub pool: Arc<Pool>,
    tokens: Tokens,
    slots: Slots,
}

type Answer = Result<Response, Problem>;
type Route = (&'static str, &'static str, MethodRouter<Arc<App>>);

impl App {
    /// An app that serves this pool to the holders of these tokens.
    pub fn new(pool: Arc<Pool>, tokens: Tokens) -> Arc<Self> {
        Arc::new(Self { pool, tokens, slots: Slots::new() })
    }

    fn admit(&self, request: &mut Request) -> Result<Slot<'_>, Problem> {
        if !OPEN.contains(&request.uri().path()) {
            let headers = request.headers();
            if self.tokens.is_empty() && !is_local(headers) {
                let message = "without tokens, only requests to this machine's own name are answered";
                return Err(Problem::new(403, "forbidden", message, "ask for http://127.0.0.1 or http://localhost"));
            }
            let caller = self.tokens.caller(text(headers, header::AUTHORIZATION.as_str()))?;
            request.extensions_mut().insert(caller);
        }
        let busy = || Problem::new(503, "busy", "there are too many requests at once", "try again").retry(1);
        let slot = self.slots.take(request.method(), request.uri().path()).ok_or_else(busy)?;
        request.extensions_mut().insert(slot.patience);
        Ok(slot)
    }
}

/// All routes: method, path and handler. `openapi` describes each.
pub fn routes() -> Vec<Route> {
    vec![
        ("post", openapi::POOL, post(lease)),
        ("get", openapi::POOL, get(list)),
        ("delete", openapi::POOL, delete(give_back_by_key)),
        ("get", "/api/v1/vm-pool/{lease_id}", get(show)),
        ("delete", "/api/v1/vm-pool/{lease_id}", delete(give_back)),
        ("post", "/api/v1/vm-pool/{lease_id}/renew", post(renew)),
        ("get", openapi::OFFERS, get(offers)),
        ("get", openapi::PATH, get(async || Json(openapi::document()))),
        ("get", "/healthz", get(healthz)),
        ("get", "/metrics", get(metrics)),
    ]
}

/// The router with all routes and the guard.
pub fn router(app: &Arc<App>) -> Router {
    let router = routes().into_iter().fold(Router::new(), |router, (_, path, answer)| router.route(path, answer));
    let help = format!("{} describes the paths", openapi::PATH);
    let wrong = help.clone();
    router
        .fallback(async || Problem::new(404, "not_found", "there is no such path", help))
        .method_not_allowed_fallback(async || {
            Problem::new(405, "method", "the path does not support this method", wrong)
        })
        .layer(from_fn_with_state(Arc::clone(app), guard))
        .layer(map_response_with_state(Arc::clone(app), dated))
        .with_state(Arc::clone(app))
}

/// Every answer tells the time of the clock by which leases expire: the caller's may be another.
async fn dated(State(app): State<Arc<App>>, mut response: Response) -> Response {
    if let Some(date) = http_date(app.pool.now()).and_then(|date| HeaderValue::from_str(&date).ok()) {
        response.headers_mut().insert(header::DATE, date);
    }
    response
}

async fn guard(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let (method, path, began) = (request.method().clone(), request.uri().path().to_owned(), Instant::now());
    let admitted = app.admit(&mut request);
    let who = request.extensions().get::<Caller>().map(|caller| caller.name.clone()).unwrap_or_default();
    let (response, about) = log::noted(async {
        match admitted {
            Ok(_slot) => next.run(request).await,
            Err(problem) => problem.into_response(),
        }
    })
    .await;
    log::answered(&method, &path, &who, &about, &response, began.elapsed());
    app.pool.metrics.answered(method.as_str(), response.status().as_u16());
    response
}

/// Whether the `Host` header names this machine. Guards against DNS rebinding: a web page in a local browser can use
/// any host name that resolves to this machine.
fn is_local(headers: &HeaderMap) -> bool {
    let Some(host) = text(headers, header::HOST.as_str()) else { return true };
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    };
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A header's value; empty if it is not visible ASCII.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or(""))
}

async fn body(request: Request) -> Result<Bytes, Problem> {
    let read = tokio::time::timeout(BODY_BOUND, to_bytes(request.into_body(), BODY_MOST)).await;
    match read {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(Problem::new(413, "too_large", "the body is truncated or over 64 KiB", "send less")),
        Err(_) => Err(Problem::new(408, "slow", "the body did not come within 30 s", "send it again")),
    }
}

fn permitted(caller: &Caller, workspace: &str) -> Result<(), Problem> {
    if caller.may(workspace) {
        return Ok(());
    }
    let help = "use a token of that workspace, or ask the pool's operator to add it to this one";
    Err(Problem::new(403, "forbidden", format!("the token is not for the workspace `{workspace}`"), help))
}

async fn lease(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>, request: Request) -> Answer {
    let key = read_key(text(request.headers(), "idempotency-key"), KeyIn::Header)?;
    let lease_request = read_wish(&body(request).await?, app.pool.bounds.max_ttl_s)?;
    log::workspace(&lease_request.workspace);
    permitted(&caller, &lease_request.workspace)?;
    let (status, row) = match app.pool.lease(&caller, key, lease_request).await? {
        Leased::New(row) => (StatusCode::CREATED, row),
        Leased::Known(row) => (StatusCode::OK, row),
    };
    log::lease(&row);
    let location = [(header::LOCATION, format!("/api/v1/vm-pool/{}", row.id))];
    Ok((status, location, Json(row.shown(&caller.name))).into_response())
}

async fn list(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    let rows = app.pool.list().await?;
    let own = rows.iter().filter(|row| caller.may(row.workspace()));
    let shown: Vec<Value> = own.map(|row| row.shown(&caller.name)).collect();
    Ok(Json(json!({ "leases": shown })).into_response())
}

/// A lease, if the caller may use its workspace; `None` if it is gone.
async fn own(app: &App, caller: &Caller, id: &str) -> Result<Option<Row>, Problem> {
    let row = app.pool.get(&LeaseId::from(id)).await?;
    if let Some(row) = &row {
        log::lease(row);
        permitted(caller, row.workspace())?;
    }
    Ok(row)
}

fn unknown(id: &str) -> Problem {
    let shown: String = id.chars().filter(|c| c.is_ascii_graphic()).take(64).collect();
    Problem::new(404, "not_found", format!("there is no lease `{shown}`"), "GET /api/v1/vm-pool lists those there are")
}

async fn show(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>, Path(id): Path<String>) -> Answer {
    let row = own(&app, &caller, &id).await?.ok_or_else(|| unknown(&id))?;
    Ok(Json(row.shown(&caller.name)).into_response())
}

async fn give_back(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Extension(patience): Extension<Patience>,
    Path(id): Path<String>,
) -> Answer {
    match own(&app, &caller, &id).await? {
        Some(row) => take_back(&app, &caller, Row::to_give_back(&row.owner, &row.key, app.pool.now()), patience).await,
        None => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

#[derive(Deserialize)]
struct ByKey {
    idempotency_key: Option<String>,
}

async fn give_back_by_key(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Extension(patience): Extension<Patience>,
    Query(query): Query<ByKey>,
) -> Answer {
    let key = read_key(query.idempotency_key.as_deref(), KeyIn::Query)?;
    take_back(&app, &caller, Row::to_give_back(&caller.name, &key, app.pool.now()), patience).await
}

async fn take_back(app: &App, caller: &Caller, row: Row, Patience(patience): Patience) -> Answer {
    let id = row.id.clone();
    match app.pool.get(&id).await? {
        Some(row) => log::lease(&row),
        None => log::lease_id(&id),
    }
    if app.pool.give_back(row, patience).await? {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    // The ledger holds the release request, so the release continues without the caller.
    let row = app.pool.get(&id).await?;
    let shown = row.map_or(Value::Null, |row| row.shown(&caller.name));
    Ok((StatusCode::ACCEPTED, [(header::RETRY_AFTER, "5")], Json(shown)).into_response())
}

async fn renew(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    request: Request,
) -> Answer {
    let ttl_s = read_renewal(&body(request).await?, app.pool.bounds.max_ttl_s)?;
    let row = own(&app, &caller, &id).await?.ok_or_else(|| unknown(&id))?;
    Ok(Json(app.pool.renew(&row, ttl_s).await?.shown(&caller.name)).into_response())
}

async fn offers(State(app): State<Arc<App>>) -> Answer {
    let late = |_| Problem::new(503, "late", "the provider does not say what it has", "try again").retry(5);
    let offers = tokio::time::timeout(OFFERS_BOUND, app.pool.offers()).await.map_err(late)??;
    Ok(Json(json!({ "offers": offers })).into_response())
}

/// Healthy as long as the ledger works. Anybody may ask, so it touches neither the ledger nor its lock.
async fn healthz(State(app): State<Arc<App>>) -> Answer {
    if app.pool.is_well() {
        return Ok(Json(json!({ "ok": true })).into_response());
    }
    let help = "the pool's operator finds the cause in the service's log";
    Err(Problem::new(503, "ledger", "the ledger of leases does not work", help).retry(5))
}

async fn metrics(State(app): State<Arc<App>>) -> Answer {
    let counts = app.pool.at_desk(|desk| desk.ledger.counts()).await?;
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((kind, app.pool.metrics.text(&counts)).into_response())
}
