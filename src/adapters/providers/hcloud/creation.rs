//! Sends create requests and puts what their answers name into the lease's record, before anything that can fail. Not
//! responsible for: what is created.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::Method;
use serde_json::Value;
use tokio::time::Instant;

use super::api::Api;
use super::error::ApiError;
use crate::domain::base::LeaseId;
use crate::domain::ports::{LeaseRecord, Resource};

/// Kinds of resources in a lease's record; the same words as in the API's answers.
pub(super) const SERVER: &str = "server";
pub(super) const SSH_KEY: &str = "ssh_key";
pub(super) const PRIMARY_IP: &str = "primary_ip";

/// What a lease's create requests have come to.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// When one was last sent whose result no answer told: what it created may not be listed yet.
    pub(super) unanswered: Option<Instant>,
}

/// The create requests of each lease. A lease's mutex is held while one is pending, which may outlive the future that
/// sent it; a release waits for it.
#[derive(Debug, Default)]
pub(super) struct Creations(Mutex<BTreeMap<LeaseId, Arc<tokio::sync::Mutex<Requests>>>>);

/// A create request.
pub(super) struct Creation<'a> {
    pub(super) lease: &'a LeaseId,
    pub(super) record: &'a LeaseRecord,
    /// The kind of what is created; its key in the answer.
    pub(super) kind: &'static str,
    pub(super) body: &'a Value,
}

impl Creations {
    pub(super) fn of(&self, lease: &LeaseId) -> Arc<tokio::sync::Mutex<Requests>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(lease.clone()).or_default())
    }

    /// Drops the state of a released lease.
    pub(super) fn forget(&self, lease: &LeaseId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(lease);
    }

    /// Sends a create request. It completes, and its answer goes into the record, even if the caller's future is
    /// dropped.
    pub(super) async fn make(&self, api: &Arc<Api>, creation: Creation<'_>) -> Result<Value, ApiError> {
        let Creation { lease, record, kind, body } = creation;
        let mut held = self.of(lease).lock_owned().await;
        let (api, record, body) = (Arc::clone(api), record.clone(), body.clone());
        let task = tokio::spawn(async move {
            let answer = api.once(Method::POST, &format!("/{kind}s"), &[], Some(&body)).await;
            match &answer {
                Ok(answer) => {
                    for resource in resources(kind, answer) {
                        record.learn(resource).await;
                    }
                    if record.of(kind).is_empty() {
                        held.unanswered = Some(Instant::now());
                    }
                }
                // The name is taken, perhaps by what an earlier request of ours created.
                Err(error) if error.may_have_worked() || error.is("uniqueness_error") => {
                    held.unanswered = Some(Instant::now());
                }
                Err(_) => {}
            }
            answer
        });
        task.await.unwrap_or_else(|error| Err(ApiError::Lost(error.to_string())))
    }
}

/// What an answer says was created, however little else of it is understood.
pub(super) fn resources(kind: &str, answer: &Value) -> Vec<Resource> {
    let made = &answer[kind];
    let Some(id) = made["id"].as_u64() else { return Vec::new() };
    let mut resource = Resource::new(kind, id);
    resource.name = made["name"].as_str().map(str::to_owned);
    let addresses = ["ipv4", "ipv6"].map(|family| made["public_net"][family]["id"].as_u64());
    let addresses = addresses.into_iter().flatten().map(|id| Resource::new(PRIMARY_IP, id));
    std::iter::once(resource).chain(addresses).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_names_the_server_and_its_addresses_though_nothing_else_of_it_is_understood() {
        let answer = json!({"server": {"id": 42, "name": "a", "public_net": {"ipv4": {"id": 7}, "ipv6": null}}});
        let named = [Resource::new(SERVER, 42).named("a"), Resource::new(PRIMARY_IP, 7)];
        assert_eq!(resources(SERVER, &answer), named);
        assert_eq!(resources(SSH_KEY, &json!({"ssh_key": {"id": 1}})), [Resource::new(SSH_KEY, 1)]);
        assert!(resources(SERVER, &json!({"action": {"id": 1}})).is_empty());
    }
}
