//! Tests the client against the real service over HTTP on loopback.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixStream};

use super::*;
use crate::domain::base::{LayerName, RunId};
use crate::domain::model::{FaultClass, FaultKind, Size};
use crate::serve::stub_tests::{Running, Stub, TOKEN, bounds, offer, tokens};
use crate::serve::{Bounds, Tokens};
use crate::system::now;

fn settings(endpoint: &str) -> VmPoolSettings {
    VmPoolSettings { endpoint: endpoint.to_owned(), workspace: "w".to_owned() }
}

fn pool(endpoint: &str, keys: &Path) -> VmPool {
    VmPool::new(settings(endpoint), None, keys).expect("a client")
}

fn request(lease: &str) -> AcquireRequest {
    let size = Size { runner_type: "any".into(), cpu: 2, memory_gb: 4, time_budget_min: 1, tier: "explicit".into() };
    AcquireRequest {
        lease: LeaseId::from(lease),
        run: RunId::from("r"),
        layer: LayerName::from("l"),
        size,
        platform: "linux/amd64".into(),
        lifetime: Duration::from_secs(600),
        authorized_key: None,
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[tokio::test]
async fn a_lease_goes_round_and_only_its_id_is_needed_to_give_it_back() {
    let (stub, data, keys) = (Stub::new(), folder(), folder());
    let service = Running::start(stub.clone(), data.path()).await;
    let client = pool(&service.endpoint, keys.path());
    assert_eq!(client.offers().await.expect("offers"), [offer()]);
    let lease = client.acquire(&request("r-1"), &LeaseRecord::default()).await.expect("a lease");
    let identity = keys.path().join("r-1/id");
    let endpoint = Endpoint::Ssh(SshTarget {
        address: "192.0.2.7".into(),
        port: 2222,
        user: "root".into(),
        host_key: "ssh-ed25519 AAAAhost".into(),
        identity: Some(identity.clone()),
        is_configured: false,
    });
    assert_eq!(lease, Lease { id: LeaseId::from("r-1"), offer: offer(), endpoint, ready_by: None });
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&identity).expect("a key").permissions());
    assert_eq!(mode & 0o777, 0o600);
    let public = std::fs::read_to_string(keys.path().join("r-1/id.pub")).expect("a key");
    let asked = stub.made.lock().expect("sound").values().next().expect("one").authorized_key.clone();
    assert!(public.starts_with(&asked.expect("a key")), "another key than the lease's may log in");
    // Another process knows only the id and repeats the identical request.
    let other = pool(&service.endpoint, keys.path());
    let mut again = request("r-1");
    again.lifetime += Duration::from_secs(60);
    assert_eq!(other.acquire(&again, &LeaseRecord::default()).await.expect("the same lease"), lease);
    let owned = other.owned().await.whole().expect("owned");
    assert_eq!((owned.len(), owned[0].lease.as_str()), (1, "r-1"));
    assert!(owned[0].expires.is_some() && owned[0].what.contains("192.0.2.7"), "{owned:?}");
    for _ in 0..2 {
        other.release(&LeaseId::from("r-1"), &LeaseRecord::default()).await.expect("given back");
    }
    assert_eq!(stub.living(), 0);
    assert!(!identity.exists(), "a private key is left");
    other.release(&LeaseId::from("never-was"), &LeaseRecord::default()).await.expect("given back");
}

#[tokio::test]
async fn a_lease_is_given_back_by_its_id_with_another_token_of_its_workspace() {
    let (stub, data, keys) = (Stub::new(), folder(), folder());
    let (renewed, foreign) = ("a-token-of-the-tests-1", "a-token-of-the-tests-2");
    let known = tokens(&[("one", TOKEN, &["w"]), ("two", renewed, &["w"]), ("three", foreign, &["v"])]);
    let service = Running::with(stub.clone(), data.path(), known, bounds()).await;
    let client = |token: &str| {
        let token = Some(PoolToken::new(token).expect("a token"));
        VmPool::new(settings(&service.endpoint), token, keys.path()).expect("a client")
    };
    let record = LeaseRecord::default();
    client(TOKEN).acquire(&request("r-1"), &record).await.expect("a lease");
    let lease = LeaseId::from("r-1");
    // Its key is another one's with another token: nothing is known of it.
    client(renewed).release(&lease, &LeaseRecord::default()).await.expect("nothing of that key is there");
    assert_eq!((record.of("lease").len(), stub.living()), (1, 1));
    let record = LeaseRecord::read(record.known());
    // To a token of another workspace the pool shows nothing: that is no sign that the machine is gone.
    let fault = client(foreign).release(&lease, &record).await.expect_err("it cannot know");
    assert_eq!(
        (fault.class(), fault.code.as_str(), stub.living()),
        (FaultClass::Denied, "lian::vm_pool::forbidden", 1)
    );
    assert_eq!(client(renewed).release(&lease, &record).await, Ok(Gone::Deleted));
    assert_eq!(stub.living(), 0);
    assert_eq!(client(renewed).release(&lease, &record).await, Ok(Gone::Absent));
}

#[tokio::test]
async fn a_key_of_the_callers_own_is_used_as_it_is() {
    let (stub, data, keys) = (Stub::new(), folder(), folder());
    let service = Running::start(stub.clone(), data.path()).await;
    let mut request = request("r-1");
    request.authorized_key = Some(crate::serve::stub_tests::KEY.to_owned());
    let lease = pool(&service.endpoint, keys.path()).acquire(&request, &LeaseRecord::default()).await.expect("a lease");
    let Endpoint::Ssh(target) = lease.endpoint else { panic!("{:?}", lease.endpoint) };
    assert_eq!(target.identity, None);
    assert!(!keys.path().join("r-1/id").exists());
    let identity = keys.path().join("mine");
    let client = || pool(&service.endpoint, keys.path()).identity(Some(identity.clone()));
    request = AcquireRequest { lease: LeaseId::from("r-2"), authorized_key: None, ..request };
    assert_eq!(
        client().acquire(&request, &LeaseRecord::default()).await.expect_err("no public half").code,
        "lian::vm_pool::identity"
    );
    let public = crate::serve::stub_tests::KEY;
    std::fs::write(keys.path().join("mine.pub"), format!("{public} me@here\n")).expect("writable");
    let lease = client().acquire(&request, &LeaseRecord::default()).await.expect("a lease");
    let Endpoint::Ssh(target) = lease.endpoint else { panic!("{:?}", lease.endpoint) };
    assert_eq!(target.identity, Some(identity));
    assert_eq!(stub.made.lock().expect("sound").values().last().expect("one").authorized_key.as_deref(), Some(public));
}

/// Polls until the condition holds.
async fn comes(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let mut seen = crate::serve::stub_tests::eventually(what);
    while !seen(so().await) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_lease_is_short_and_renewed_for_as_long_as_somebody_holds_it() {
    let (stub, data, keys) = (Stub::new(), folder(), folder());
    let service = Running::start(stub.clone(), data.path()).await;
    let ends = async || service.leases().await.first().map(|lease| lease["expires_at"].clone());
    let held_long = || AcquireRequest { lifetime: Duration::from_secs(4 * 3600), ..request("r-1") };
    let client = pool(&service.endpoint, keys.path()).beat(Duration::from_millis(20));
    client.acquire(&held_long(), &LeaseRecord::default()).await.expect("a lease");
    assert_eq!(ends().await.expect("one"), "2027-01-15T08:15:00Z", "not a quarter of an hour");
    service.later(600);
    comes("renewed", async || ends().await.expect("one") == "2027-01-15T08:25:00Z").await;
    service.later(600);
    comes("and again", async || ends().await.expect("one") == "2027-01-15T08:35:00Z").await;
    // A dead run renews nothing, so its lease expires soon.
    drop(client);
    service.later(901);
    comes("the pool takes it back", async || stub.living() == 0).await;
    // Releasing a lease stops its renewal.
    let client = pool(&service.endpoint, keys.path()).beat(Duration::from_millis(20));
    let second = AcquireRequest { lease: LeaseId::from("r-2"), ..held_long() };
    client.acquire(&second, &LeaseRecord::default()).await.expect("a lease");
    client.release(&second.lease, &LeaseRecord::default()).await.expect("given back");
    assert!(client.renewals().is_empty());
    // A lease for someone else gets its full lifetime at once: this process may not stay alive to renew it.
    let third = AcquireRequest {
        lease: LeaseId::from("r-3"),
        authorized_key: Some(crate::serve::stub_tests::KEY.to_owned()),
        lifetime: Duration::from_secs(2400),
        ..held_long()
    };
    client.acquire(&third, &LeaseRecord::default()).await.expect("a lease");
    assert!(client.renewals().is_empty());
}

#[tokio::test]
async fn when_a_lease_ends_is_told_by_this_machines_clock() {
    let (stub, data, keys) = (Stub::new(), folder(), folder());
    let service = Running::start(stub, data.path()).await;
    // The service's clock shows another year, and so do its answers.
    let client = pool(&service.endpoint, keys.path());
    client.acquire(&request("r-1"), &LeaseRecord::default()).await.expect("a lease");
    let owned = client.owned().await.whole().expect("a list").remove(0);
    let (now, created, expires) = (now().0, owned.created.expect("told").0, owned.expires.expect("told").0);
    assert!(created.abs_diff(now) < 30_000, "created at {created}, and it is {now}");
    assert!(expires.abs_diff(now + 600_000) < 30_000, "expires at {expires}, and it is {now}");
}

#[tokio::test]
async fn a_pool_that_leases_for_less_names_the_setting() {
    let (stub, data, keys) = (Stub::new(), folder(), folder());
    let short = Bounds { max_ttl_s: 120, ..bounds() };
    let service = Running::with(stub, data.path(), Tokens::default(), short).await;
    let fault = pool(&service.endpoint, keys.path())
        .acquire(&request("r-1"), &LeaseRecord::default())
        .await
        .expect_err("too long");
    assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Unavailable, "lian::vm_pool::ttl"));
    assert_eq!(fault.class(), FaultClass::Configuration);
    assert!(fault.help.expect("help").contains("runners.max_lifetime_min"), "{}", fault.message);
}

/// Proxy that forwards connections and drops the first response.
async fn losing(upstream: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("it listens");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut first = true;
        loop {
            let (mut near, _) = listener.accept().await.expect("a connection");
            let mut far = UnixStream::connect(&upstream).await.expect("the service");
            if std::mem::take(&mut first) {
                let mut asked = vec![0; 64 * 1024];
                let mut length = near.read(&mut asked).await.expect("a request");
                while !asked[..length].ends_with(b"}") {
                    length += near.read(&mut asked[length..]).await.expect("its body");
                }
                far.write_all(&asked[..length]).await.expect("passed on");
                far.read_exact(&mut [0; 12]).await.expect("an answer");
                continue;
            }
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    });
    format!("http://{address}")
}

/// A pool that grants whatever it is asked for, under this id; and the first lines of what it was asked.
async fn granting(id: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("it listens");
    let address = listener.local_addr().expect("an address");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 64 * 1024];
            let length = stream.read(&mut request).await.expect("a request");
            let line = String::from_utf8_lossy(&request[..length]).lines().next().unwrap_or_default().to_owned();
            heard.lock().expect("whole").push(line);
            let granted = serde_json::json!({
                "lease_id": id, "address": "192.0.2.7", "port": 22, "user": "root", "host_key": "ssh-ed25519 AAAA",
                "runner_type": "x", "cpu": 2, "memory_gb": 4, "platform": "linux/amd64",
            });
            let (granted, head) = (granted.to_string(), "HTTP/1.1 200 OK\r\nConnection: close\r\n");
            let answer = format!("{head}Content-Length: {}\r\n\r\n{granted}", granted.len());
            stream.write_all(answer.as_bytes()).await.expect("sent");
        }
    });
    (format!("http://{address}"), asked)
}

#[tokio::test]
async fn an_id_that_is_no_name_becomes_no_part_of_an_address_and_the_lease_is_given_back_by_its_key() {
    for id in ["../../other?x=", "a/b", "-rf", "", "x\r\nHost: other"] {
        let keys = folder();
        let (endpoint, asked) = granting(id).await;
        let (client, record) = (pool(&endpoint, keys.path()), LeaseRecord::default());
        let fault = client.acquire(&request("r-1"), &record).await.expect_err("such a lease");
        assert!(fault.message.contains("`lease_id` is not a name"), "{id}: {}", fault.message);
        assert_eq!(record.known(), [], "{id}");
        client.release(&LeaseId::from("r-1"), &record).await.expect("given back");
        let asked: Vec<String> = asked.lock().expect("whole").clone();
        assert!(
            asked.iter().any(|line| line.starts_with("DELETE") && line.contains("idempotency_key=r-1")),
            "{asked:?}"
        );
        let plain = |line: &String| {
            line.starts_with("GET /healthz ") || line.contains("/vm-pool ") || line.contains("/vm-pool?")
        };
        assert!(asked.iter().all(plain), "{id}: {asked:?}");
    }
}

#[tokio::test]
async fn a_lost_answer_makes_no_second_machine() {
    let (stub, data, keys) = (Stub::new(), folder(), folder());
    let service = Running::start(stub.clone(), data.path()).await;
    let upstream = service.endpoint.trim_start_matches("unix:").to_owned();
    let client = pool(&losing(upstream).await, keys.path());
    client.acquire(&request("r-1"), &LeaseRecord::default()).await.expect("a lease");
    assert_eq!((stub.makes.load(Ordering::SeqCst), stub.living()), (1, 1));
    client.release(&LeaseId::from("r-1"), &LeaseRecord::default()).await.expect("given back");
    assert_eq!(stub.living(), 0);
}

#[tokio::test]
async fn a_full_pool_is_waited_for_and_then_told() {
    let (stub, data, keys) = (Stub::new(), folder(), folder());
    let one = Bounds { max_leases: 1, ..bounds() };
    let service = Running::with(stub.clone(), data.path(), Tokens::default(), one).await;
    let client = pool(&service.endpoint, keys.path());
    client.acquire(&request("r-1"), &LeaseRecord::default()).await.expect("a lease");
    let hasty = pool(&service.endpoint, keys.path()).patience(Duration::ZERO);
    let fault = hasty.acquire(&request("r-2"), &LeaseRecord::default()).await.expect_err("full");
    assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Infrastructure, "lian::vm_pool::quota"));
    let (second, record) = (request("r-2"), LeaseRecord::default());
    let first = LeaseId::from("r-1");
    let (lease, released) = tokio::join!(client.acquire(&second, &record), hasty.release(&first, &record));
    released.expect("given back");
    assert_eq!(lease.expect("a lease").id.as_str(), "r-2");
}

#[tokio::test]
async fn a_pool_that_is_slow_to_give_back_is_told_so_and_what_fails_there_is_tried_again() {
    let (stub, data, keys) = (Stub::new(), folder(), folder());
    let service = Running::start(stub.clone(), data.path()).await;
    let client = pool(&service.endpoint, keys.path());
    *stub.fault.lock().expect("sound") = Some(Fault::new(FaultKind::Infrastructure, "lian::stub::fault", "not now"));
    client.acquire(&request("r-1"), &LeaseRecord::default()).await.expect("the second try is granted");
    stub.stubborn.store(1, Ordering::SeqCst);
    let fault = client.release(&LeaseId::from("r-1"), &LeaseRecord::default()).await.expect_err("it failed");
    assert_eq!(fault.code, "lian::vm_pool::release");
    assert!(fault.message.contains("lian::stub::stubborn"), "{fault:?}");
    client.release(&LeaseId::from("r-1"), &LeaseRecord::default()).await.expect("given back");
    assert_eq!(stub.living(), 0);
    *stub.fault.lock().expect("sound") = Some(Fault::new(FaultKind::Unavailable, "lian::stub::none", "none fits"));
    let fault = client.acquire(&request("r-2"), &LeaseRecord::default()).await.expect_err("refused");
    assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Unavailable, "lian::vm_pool::refused"));
    assert!(fault.message.contains("none fits"), "{fault:?}");
}

#[tokio::test]
async fn tokens_are_shown_to_the_pool_alone() {
    let (stub, data, keys) = (Stub::new(), folder(), folder());
    let known = tokens(&[("one", TOKEN, &["w"])]);
    let service = Running::with(stub, data.path(), known, bounds()).await;
    let fault = pool(&service.endpoint, keys.path()).offers().await.expect_err("no token");
    assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Unavailable, "lian::vm_pool::unauthorized"));
    assert_eq!(fault.class(), FaultClass::Denied);
    let token = || Some(PoolToken::new(TOKEN).expect("a token"));
    let client = VmPool::new(settings(&service.endpoint), token(), keys.path()).expect("a client");
    assert_eq!(client.offers().await.expect("offers").len(), 1);
    assert!(!format!("{client:?}").contains(TOKEN), "{client:?}");
    let foreign = VmPoolSettings { workspace: "other".into(), ..settings(&service.endpoint) };
    let foreign = VmPool::new(foreign, token(), keys.path()).expect("a client");
    let fault = foreign.acquire(&request("r-1"), &LeaseRecord::default()).await.expect_err("another's workspace");
    assert_eq!((fault.class(), fault.code.as_str()), (FaultClass::Denied, "lian::vm_pool::forbidden"));
    let open = VmPool::new(settings("http://pool.example"), token(), keys.path()).expect_err("in the clear");
    assert_eq!(open.code, "lian::vm_pool::plain_http");
    assert!(VmPool::new(settings("https://pool.example"), token(), keys.path()).is_ok());
    for lease in ["../r-1", ".", "", "a/b"] {
        assert_eq!(
            client.release(&LeaseId::from(lease), &LeaseRecord::default()).await.expect_err("no lease").code,
            "lian::vm_pool::lease"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_at_the_address_is_told_after_some_tries() {
    let keys = folder();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("it listens");
    let free = listener.local_addr().expect("an address");
    drop(listener);
    let fault = pool(&format!("http://{free}"), keys.path()).offers().await.expect_err("nobody");
    assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Infrastructure, "lian::vm_pool::unreachable"));
}
