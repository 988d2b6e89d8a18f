//! The service: named counters in memory, and their routes. It owns no socket.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

/// All counters; clones share them.
#[derive(Clone, Default)]
pub struct Tallies(Arc<Mutex<BTreeMap<String, u64>>>);

#[derive(Deserialize)]
struct Step {
    #[serde(default = "one")]
    by: u64,
}

fn one() -> u64 {
    1
}

#[derive(Serialize)]
struct Tally {
    name: String,
    count: u64,
}

/// `GET /health`, `GET /tallies`, and `GET`, `POST ?by=N` and `DELETE` on `/tallies/{name}`.
pub fn router(tallies: Tallies) -> Router {
    Router::new()
        .route("/health", get(|| async { "ok" }))
        .route("/tallies", get(all))
        .route("/tallies/{name}", get(read).post(add).delete(remove))
        .with_state(tallies)
}

impl Tallies {
    fn with<T>(&self, f: impl FnOnce(&mut BTreeMap<String, u64>) -> T) -> T {
        f(&mut self.0.lock().expect("invariant: no holder of the lock panics"))
    }
}

async fn all(State(tallies): State<Tallies>) -> Json<BTreeMap<String, u64>> {
    Json(tallies.with(|counts| counts.clone()))
}

async fn read(State(tallies): State<Tallies>, Path(name): Path<String>) -> Result<Json<Tally>, StatusCode> {
    let count = tallies.with(|counts| counts.get(&name).copied());
    count.map(|count| Json(Tally { name, count })).ok_or(StatusCode::NOT_FOUND)
}

async fn add(State(tallies): State<Tallies>, Path(name): Path<String>, Query(step): Query<Step>) -> Json<Tally> {
    let count = tallies.with(|counts| {
        let count = counts.entry(name.clone()).or_default();
        *count = count.saturating_add(step.by);
        *count
    });
    Json(Tally { name, count })
}

async fn remove(State(tallies): State<Tallies>, Path(name): Path<String>) -> StatusCode {
    match tallies.with(|counts| counts.remove(&name)) {
        Some(_) => StatusCode::NO_CONTENT,
        None => StatusCode::NOT_FOUND,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    async fn call(app: &Router, method: &str, uri: &str) -> (StatusCode, serde_json::Value) {
        let request = Request::builder().method(method).uri(uri).body(Body::empty()).unwrap();
        let response = app.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    #[tokio::test]
    async fn counts_by_name_and_forgets() {
        let app = router(Tallies::default());
        assert_eq!(call(&app, "GET", "/tallies/cats").await.0, StatusCode::NOT_FOUND);
        assert_eq!(call(&app, "POST", "/tallies/cats").await.1["count"], 1);
        assert_eq!(call(&app, "POST", "/tallies/cats?by=4").await.1["count"], 5);
        assert_eq!(call(&app, "GET", "/tallies").await.1["cats"], 5);
        assert_eq!(call(&app, "DELETE", "/tallies/cats").await.0, StatusCode::NO_CONTENT);
        assert_eq!(call(&app, "DELETE", "/tallies/cats").await.0, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn a_count_stops_at_its_greatest_value() {
        let app = router(Tallies::default());
        call(&app, "POST", &format!("/tallies/stars?by={}", u64::MAX)).await;
        assert_eq!(call(&app, "POST", "/tallies/stars").await.1["count"], u64::MAX);
    }
}
