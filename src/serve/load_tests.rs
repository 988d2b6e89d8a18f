//! The service under load: what waits holds up nothing that is quick.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::stub_tests::*;
use super::{Bounds, Tokens};

const POOL: &str = "/api/v1/vm-pool";
/// Longer than anything quick takes, and shorter than what waits.
const QUICK: Duration = Duration::from_secs(8);

async fn service(stub: &Arc<Stub>, data: &tempfile::TempDir) -> Arc<Running> {
    let bounds = Bounds { max_leases: 0, ..bounds() };
    Arc::new(Running::with(Arc::clone(stub) as _, data.path(), Tokens::default(), bounds).await)
}

/// The answer to a request, which must be quick.
async fn quick(service: &Running, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
    let asked = service.json(method.clone(), path, "", body);
    tokio::time::timeout(QUICK, asked).await.unwrap_or_else(|_| panic!("{method} {path} takes too long"))
}

/// Polls until so many machines are made.
async fn made(stub: &Stub, machines: usize) {
    let mut so = eventually("the machines are made");
    while !so(stub.makes.load(Ordering::SeqCst) == machines) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn giving_back_and_renewing_are_quick_while_all_places_wait_for_a_machine() {
    let (stub, data) = (Stub::with_gate(1), tempfile::tempdir().expect("a folder"));
    let service = service(&stub, &data).await;
    let (_, held) = service.lease("held", &lease_request("w")).await;
    let path = format!("{POOL}/{}", held["lease_id"].as_str().expect("an id"));
    let mut waiting = tokio::task::JoinSet::new();
    for number in 0..128 {
        let service = Arc::clone(&service);
        waiting.spawn(async move { service.lease(&format!("k{number}"), &lease_request("w")).await.0 });
    }
    made(&stub, 129).await;
    let (status, full) = service.lease("one-more", &lease_request("w")).await;
    assert_eq!((status, &full["error"]["code"]), (429, &json!("busy")));
    assert_eq!(quick(&service, Method::GET, POOL, None).await.0, 200);
    assert_eq!(quick(&service, Method::GET, "/healthz", None).await.0, 200);
    assert_eq!(quick(&service, Method::GET, "/metrics", None).await.0, 200);
    assert_eq!(quick(&service, Method::GET, "/api/v1/offers", None).await.0, 200);
    let renew = json!({ "ttl_s": 900 });
    assert_eq!(quick(&service, Method::POST, &format!("{path}/renew"), Some(&renew)).await.0, 200);
    assert_eq!(quick(&service, Method::DELETE, &path, None).await.0, 204);
    assert_eq!(quick(&service, Method::DELETE, &format!("{POOL}?idempotency_key=k7"), None).await.0, 204);
    stub.gate.add_permits(128);
    let mut ends = Vec::new();
    while let Some(status) = waiting.join_next().await {
        ends.push(status.expect("no panic"));
    }
    ends.sort_unstable();
    assert_eq!((ends[0], ends[126], ends[127]), (201, 201, 410));
}

#[tokio::test]
async fn releases_that_hang_hold_up_no_renewal_and_the_next_one_is_written_down() {
    let (stub, data) = (Stub::new(), tempfile::tempdir().expect("a folder"));
    let service = service(&stub, &data).await;
    let mut paths = Vec::new();
    for number in 0..130 {
        let (_, lease) = service.lease(&format!("k{number}"), &lease_request("w")).await;
        paths.push(format!("{POOL}/{}", lease["lease_id"].as_str().expect("an id")));
    }
    stub.hangs.store(true, Ordering::SeqCst);
    let mut waiting = tokio::task::JoinSet::new();
    for path in paths.drain(..128) {
        let service = Arc::clone(&service);
        waiting.spawn(async move { service.json(Method::DELETE, &path, "", None).await.0 });
    }
    let mut so = eventually("all are waited for");
    while !so(stub.releases.load(Ordering::SeqCst) == 128) {
        tokio::task::yield_now().await;
    }
    let renew = json!({ "ttl_s": 900 });
    assert_eq!(quick(&service, Method::POST, &format!("{}/renew", paths[0]), Some(&renew)).await.0, 200);
    let (status, noted) = quick(&service, Method::DELETE, &paths[1], None).await;
    assert_eq!((status, &noted["state"]), (202, &json!("releasing")));
    waiting.shutdown().await;
}

#[tokio::test]
async fn health_is_told_without_the_ledger_and_ends_with_it() {
    let (stub, data) = (Stub::new(), tempfile::tempdir().expect("a folder"));
    let service = service(&stub, &data).await;
    let ledger = rusqlite::Connection::open(data.path().join("pool.db")).expect("a ledger");
    // Whoever writes now waits, with the lock of all leases.
    ledger.execute_batch("begin exclusive").expect("locked");
    let path = format!("{POOL}?idempotency_key=k");
    let release = service.json(Method::DELETE, &path, "", None);
    let asked = async {
        for _ in 0..20 {
            let told = tokio::time::timeout(Duration::from_secs(2), service.json(Method::GET, "/healthz", "", None));
            assert_eq!(told.await.expect("it waits for the ledger").0, 200);
        }
    };
    tokio::select! {
        _ = release => panic!("the ledger is locked"),
        () = asked => {}
    }
    ledger.execute_batch("rollback; alter table leases rename to lost").expect("changed");
    let mut so = eventually("it is not healthy any more");
    while !so(service.json(Method::GET, "/healthz", "", None).await.0 == 503) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn whoever_only_looks_does_not_wait_for_who_writes() {
    let (stub, data) = (Stub::new(), tempfile::tempdir().expect("a folder"));
    let service = service(&stub, &data).await;
    let (_, held) = service.lease("held", &lease_request("w")).await;
    let path = format!("{POOL}/{}", held["lease_id"].as_str().expect("an id"));
    // A change that waits for the disk, and somebody else's that is not committed.
    let _writing = Arc::clone(&service.pool.upgrade().expect("it lives").desk).lock_owned().await;
    let other = rusqlite::Connection::open(data.path().join("pool.db")).expect("a ledger");
    other.execute_batch("begin immediate; update leases set expires = 0").expect("a change");
    let (status, listed) = quick(&service, Method::GET, POOL, None).await;
    assert_eq!((status, &listed["leases"][0]["expires_at"]), (200, &held["expires_at"]), "{listed}");
    assert_eq!(quick(&service, Method::GET, &path, None).await.1["expires_at"], held["expires_at"]);
    for path in ["/metrics", "/healthz", "/api/v1/offers"] {
        assert_eq!(quick(&service, Method::GET, path, None).await.0, 200, "{path}");
    }
}
