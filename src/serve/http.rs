//! HTTP routes: each handler with its description. Not responsible for: admitting requests (`guard`), decisions about
//! leases (`pool`).

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::{from_fn_with_state, map_response_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, Router};
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::document::{
    Always, Ended, Forbidden, Guarded, Impossible, Malformed, OfBody, PATH, Refused, Unknown, Whole, finished,
};
use super::guard::{App, guard, text};
use super::ledger::LedgerView;
use super::log;
use super::machine::{KeyIn, Row, State as Stage, is_lease_id, read_key};
use super::parameters::{KeyHeader, KeyQuery, LeaseId as IdInPath, only_key};
use super::pool::{Leased, Pool};
use super::problem::Problem;
use super::request::{read_renewal, read_wish};
use super::slots::Patience;
use super::tokens::{Caller, Tokens};
use super::views::{HealthView, LeaseView, LeasesView, OfferView, OffersView};
use crate::domain::base::LeaseId;
use crate::system::http::http_date;

/// Timeout for listing offers.
const OFFERS_BOUND: Duration = Duration::from_secs(60);

type Answer = Result<Response, Problem>;

/// An app that serves this pool to the holders of these tokens.
pub(super) fn app(pool: Arc<Pool>, tokens: Tokens) -> Arc<App> {
    let (_, described) = described().split_for_parts();
    let document = finished(&described, pool.bounds.max_ttl_s, !tokens.is_empty());
    App::new(pool, tokens, document)
}

/// All routes with their descriptions.
fn described() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Whole::openapi())
        .routes(routes!(lease, list, give_back_by_key))
        .routes(routes!(show, give_back))
        .routes(routes!(renew))
        .routes(routes!(offers))
        .routes(routes!(description))
        .routes(routes!(healthz))
        .routes(routes!(metrics))
}

/// The router with all routes and the guard.
pub(super) fn router(app: &Arc<App>) -> Router {
    let (router, _) = described().split_for_parts();
    let help = format!("{PATH} describes the paths");
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

fn permitted(caller: &Caller, workspace: &str) -> Result<(), Problem> {
    if caller.may(workspace) {
        return Ok(());
    }
    let help = "use a token of that workspace, or ask the pool's operator to add it to this one";
    Err(Problem::new(403, "forbidden", format!("the token is not for the workspace `{workspace}`"), help))
}

/// Leases a machine
///
/// Waits until the machine is granted, which may take minutes. The same key with the same body answers the same lease. A
/// key whose lease ended is answered 410.
#[utoipa::path(
    post, path = "/api/v1/vm-pool", operation_id = "leaseMachine", params(KeyHeader),
    request_body(content = ref("#/components/schemas/LeaseRequest"), content_type = "application/json"),
    responses(
        (status = 201, description = "Leased", body = LeaseView, headers(("Location" = String, description = "Its path"))),
        (status = 200, description = "Leased by an earlier request", body = LeaseView, headers(("Location" = String, description = "Its path"))),
        Always, Guarded, OfBody, Forbidden, Ended, Impossible
    )
)]
async fn lease(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer {
    let key = read_key(text(&headers, "idempotency-key"), KeyIn::Header)?;
    let lease_request = read_wish(&body, app.pool.bounds.max_ttl_s)?;
    log::workspace(&lease_request.workspace);
    permitted(&caller, &lease_request.workspace)?;
    let (status, row) = match app.pool.lease(&caller, key, lease_request).await? {
        Leased::New(row) => (StatusCode::CREATED, row),
        Leased::Known(row) => (StatusCode::OK, row),
    };
    log::lease(&row);
    let location = [(header::LOCATION, format!("/api/v1/vm-pool/{}", row.id))];
    Ok((status, location, Json(LeaseView::of(&row, &caller.name))).into_response())
}

/// Lists the leases of the caller's workspaces, oldest first
#[utoipa::path(
    get, path = "/api/v1/vm-pool", operation_id = "listLeases",
    responses((status = 200, description = "The leases", body = LeasesView), Always, Guarded)
)]
async fn list(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    let rows = app.pool.list().await?;
    let own = rows.iter().filter(|row| caller.may(row.workspace()));
    let leases = own.map(|row| LeaseView::of(row, &caller.name)).collect();
    Ok(Json(LeasesView { leases, workspaces: caller.workspaces().to_vec() }).into_response())
}

/// A lease that the caller may see, also one that is gone. One of another workspace is answered as one that there never
/// was: nobody learns that it exists.
async fn own(app: &App, caller: &Caller, Path(id): &Path<String>) -> Result<Row, Problem> {
    let row = if is_lease_id(id) { app.pool.find(&LeaseId::from(id.as_str())).await? } else { None };
    let row = row.filter(|row| row.owner == caller.name || caller.may(row.workspace()));
    row.inspect(log::lease).ok_or_else(unknown)
}

fn unknown() -> Problem {
    Problem::new(404, "not_found", "there is no such lease", "GET /api/v1/vm-pool lists those there are")
}

/// Shows a lease
#[utoipa::path(
    get, path = "/api/v1/vm-pool/{lease_id}", operation_id = "showLease", params(IdInPath),
    responses((status = 200, description = "The lease", body = LeaseView), Always, Guarded, Unknown)
)]
async fn show(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>, id: IdInPath) -> Answer {
    let row = own(&app, &caller, &id.0).await?;
    match row.state {
        Stage::Released => Err(unknown()),
        _ => Ok(Json(LeaseView::of(&row, &caller.name)).into_response()),
    }
}

/// Gives a lease back
///
/// What is gone already is given back.
#[utoipa::path(
    delete, path = "/api/v1/vm-pool/{lease_id}", operation_id = "giveBack", params(IdInPath),
    responses(
        (status = 204, description = "It is gone"),
        (status = 202, description = "The pool goes on giving it back", body = LeaseView, headers(("Retry-After" = i64, description = "When to look again, in seconds"))),
        Always, Guarded, Unknown
    )
)]
async fn give_back(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Extension(patience): Extension<Patience>,
    id: IdInPath,
) -> Answer {
    let row = own(&app, &caller, &id.0).await?;
    take_back(&app, &caller, Row::to_give_back(&row.owner, &row.key, app.pool.now()), patience).await
}

/// Gives the lease of an idempotency key back
///
/// A later request with the key makes no machine. Of the keys that no request has used, the latest of each caller are
/// remembered.
#[utoipa::path(
    delete, path = "/api/v1/vm-pool", operation_id = "giveBackByKey", params(KeyQuery),
    responses(
        (status = 204, description = "It is gone"),
        (status = 202, description = "The pool goes on giving it back", body = LeaseView, headers(("Retry-After" = i64, description = "When to look again, in seconds"))),
        Always, Guarded, Malformed
    )
)]
async fn give_back_by_key(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Extension(patience): Extension<Patience>,
    uri: Uri,
) -> Answer {
    let key = only_key(&uri)?;
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
    let Some(row) = app.pool.get(&id).await? else { return Ok(StatusCode::NO_CONTENT.into_response()) };
    let shown = Json(LeaseView::of(&row, &caller.name));
    Ok((StatusCode::ACCEPTED, [(header::RETRY_AFTER, "5")], shown).into_response())
}

/// Moves a lease's end to `ttl_s` from now
///
/// At most to the pool's longest life of a lease, counted from its beginning.
#[utoipa::path(
    post, path = "/api/v1/vm-pool/{lease_id}/renew", operation_id = "renewLease", params(IdInPath),
    request_body(content = ref("#/components/schemas/Renewal"), content_type = "application/json"),
    responses((status = 200, description = "The lease", body = LeaseView), Always, Guarded, OfBody, Unknown, Ended)
)]
async fn renew(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>, id: IdInPath, body: Bytes) -> Answer {
    let ttl_s = read_renewal(&body, app.pool.bounds.max_ttl_s)?;
    let row = own(&app, &caller, &id.0).await?;
    if row.state == Stage::Released {
        return Err(unknown());
    }
    Ok(Json(LeaseView::of(&app.pool.renew(&row, ttl_s).await?, &caller.name)).into_response())
}

/// Lists the sizes that there are
#[utoipa::path(
    get, path = "/api/v1/offers", operation_id = "listOffers",
    responses((status = 200, description = "The sizes, smallest first", body = OffersView), Always, Guarded, Refused)
)]
async fn offers(State(app): State<Arc<App>>) -> Answer {
    let late = |_| Problem::new(503, "late", "the provider does not say what it has", "try again").retry(5);
    let offers = tokio::time::timeout(OFFERS_BOUND, app.pool.offers()).await.map_err(late)??;
    Ok(Json(OffersView { offers: offers.into_iter().map(OfferView::from).collect() }).into_response())
}

/// This description
#[utoipa::path(
    get, path = "/api/v1/openapi.json", operation_id = "describe", security(()),
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value), Always)
)]
async fn description(State(app): State<Arc<App>>) -> Response {
    Json(&app.document).into_response()
}

/// Whether the service and its ledger work
///
/// Anybody may ask, so it touches neither the ledger nor its lock.
#[utoipa::path(
    get, path = "/healthz", operation_id = "health", security(()),
    responses((status = 200, description = "It works", body = HealthView), Always)
)]
async fn healthz(State(app): State<Arc<App>>) -> Answer {
    if app.pool.is_well() {
        return Ok(Json(HealthView { ok: true }).into_response());
    }
    let help = "the pool's operator finds the cause in the service's log";
    Err(Problem::new(503, "ledger", "the ledger of leases does not work", help).retry(5))
}

/// Counters, in Prometheus' text form
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics",
    responses((status = 200, description = "Counters", body = String, content_type = "text/plain"), Always, Guarded)
)]
async fn metrics(State(app): State<Arc<App>>) -> Answer {
    let counts = app.pool.look(LedgerView::counts).await?;
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((kind, app.pool.metrics.text(&counts)).into_response())
}
