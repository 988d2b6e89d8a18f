//! The operator's log: who asked for what, for which workspace and lease, and why it was refused. Not responsible for:
//! its form (see `cli::log_lines`).

use std::cell::RefCell;
use std::time::Duration;

use axum::http::Method;
use axum::response::Response;

use super::machine::Row;
use super::problem::Problem;
use crate::domain::base::LeaseId;

/// What a request is about, as far as it is known.
#[derive(Debug, Clone, Default)]
pub struct About {
    workspace: String,
    lease: String,
    machine: String,
}

tokio::task_local! {
    static ABOUT: RefCell<About>;
}

/// Answers a request; what its handler notes meanwhile comes back beside the answer.
pub async fn noted<T>(answer: impl Future<Output = T>) -> (T, About) {
    let about = RefCell::new(About::default());
    ABOUT.scope(about, async { (answer.await, ABOUT.with(RefCell::take)) }).await
}

/// Notes the workspace that the request under way is about.
pub fn workspace(name: &str) {
    let _ = ABOUT.try_with(|about| name.clone_into(&mut about.borrow_mut().workspace));
}

/// Notes the lease that the request under way is about.
pub fn lease(row: &Row) {
    workspace(row.workspace());
    let machine = row.machine.as_ref();
    let machine = machine.map_or_else(String::new, |machine| format!("{} {}", machine.runner_type, machine.address));
    let _ = ABOUT.try_with(|about| {
        let mut about = about.borrow_mut();
        (about.lease, about.machine) = (row.id.to_string(), machine);
    });
}

/// Notes the id of a lease of which nothing else is known.
pub fn lease_id(id: &LeaseId) {
    let _ = ABOUT.try_with(|about| about.borrow_mut().lease = id.to_string());
}

/// Writes down an answered request. What changes nothing, and is well, is left out: questions, and renewals, which come
/// every few seconds.
pub fn answered(method: &Method, path: &str, who: &str, about: &About, response: &Response, took: Duration) {
    let what = match (method, path) {
        (&Method::POST, path) if path.ends_with("/renew") => "renew",
        (&Method::POST, _) => "lease",
        (&Method::DELETE, _) => "release",
        _ => "ask",
    };
    let (status, took_ms) = (response.status().as_u16(), u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    let About { workspace, lease, machine } = about;
    match response.extensions().get::<Problem>() {
        Some(Problem { code, message, .. }) => {
            let path: String = path.chars().take(200).collect();
            tracing::warn!(what, who, workspace, lease, path, status, code, why = message, took_ms, "refused");
        }
        None if matches!(what, "lease" | "release") => {
            tracing::info!(what, who, workspace, lease, machine, status, took_ms, "done");
        }
        None => {}
    }
}

/// Writes down that a lease's time is over.
pub fn expired(row: &Row) {
    let (who, workspace, lease) = (&row.owner, row.workspace(), row.id.as_str());
    tracing::info!(what = "expire", who, workspace, lease, "its time is over: it is given back");
}

/// Writes down that a machine is gone.
pub fn gone(lease: &LeaseId) {
    tracing::info!(what = "gone", lease = lease.as_str(), "given back to the provider");
}
