//! The service over real HTTP on loopback, with the stub provider.

use std::sync::atomic::Ordering;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::stub_tests::*;
use super::{Bounds, Listen, ServeError, Service, Tokens, hash_token, listen};
use crate::domain::model::{Fault, FaultKind};
use crate::domain::ports::Resource;

const POOL: &str = "/api/v1/vm-pool";

/// Polls until the condition holds.
macro_rules! wait_for {
    ($what:expr, $so:expr) => {{
        let mut so = eventually($what);
        while !so($so) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }};
}

/// Asks for something, and goes away without the answer once the condition holds.
macro_rules! left_when {
    ($request:expr, $so:expr) => {{
        let seen = async { wait_for!("it is asked for", $so) };
        tokio::select! {
            () = async { drop($request.await) } => panic!("it was answered"),
            () = seen => {}
        }
    }};
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn code(json: &Value) -> &str {
    json["error"]["code"].as_str().unwrap_or("")
}

fn path(lease: &Value) -> String {
    format!("{POOL}/{}", lease["lease_id"].as_str().expect("an id"))
}

#[tokio::test]
async fn the_same_key_is_the_same_lease() {
    let (stub, data) = (Stub::new(), folder());
    let service = Running::start(stub.clone(), data.path()).await;
    let (status, first) = service.lease("k", &lease_request("w")).await;
    assert_eq!(status, 201, "{first}");
    assert_eq!(first["address"], "192.0.2.7");
    assert_eq!((&first["port"], &first["user"], &first["cpu"]), (&json!(2222), &json!("root"), &json!(4)));
    assert_eq!((&first["state"], &first["idempotency_key"]), (&json!("held"), &json!("k")));
    assert_eq!(first["expires_at"], "2027-01-15T08:10:00Z");
    assert!(!first.to_string().contains("secret"), "the provider's own key is told: {first}");
    assert_eq!(service.lease("k", &lease_request("w")).await, (200, first.clone()));
    let (status, conflict) = service.lease("k", &lease_request("other")).await;
    assert_eq!((status, code(&conflict)), (422, "idempotency_conflict"));
    assert_eq!(service.lease("", &lease_request("w")).await.0, 400);
    assert_eq!(stub.makes.load(Ordering::SeqCst), 1);
    let request = stub.made.lock().expect("sound").values().next().expect("one").clone();
    assert_eq!(request.authorized_key.as_deref(), Some(KEY));
    assert_eq!((request.run.as_str(), request.layer.as_str(), request.size.memory_gb), ("pool-w", "pool", 4));
    assert_eq!(service.json(Method::GET, &path(&first), "", None).await.1, first);
    for _ in 0..2 {
        assert_eq!(service.json(Method::DELETE, &path(&first), "", None).await.0, 204);
    }
    assert_eq!(stub.living(), 0);
    assert_eq!(service.json(Method::GET, &path(&first), "", None).await.0, 404);
    assert_eq!(service.lease("k", &lease_request("w")).await.0, 410, "a late request made a machine");
}

#[tokio::test]
async fn requests_at_once_with_one_key_make_one_machine() {
    let (stub, data) = (Stub::with_gate(0), folder());
    let service = Running::start(stub.clone(), data.path()).await;
    let body = lease_request("w");
    let open = async {
        wait_for!("asked", stub.living() == 1);
        stub.gate.add_permits(1);
    };
    let (one, two, three, ()) =
        tokio::join!(service.lease("k", &body), service.lease("k", &body), service.lease("k", &body), open);
    let mut statuses = [one.0, two.0, three.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 201]);
    assert_eq!((one.1["lease_id"].clone(), stub.makes.load(Ordering::SeqCst)), (two.1["lease_id"].clone(), 1));
}

#[tokio::test]
async fn a_full_pool_says_when_to_come_again() {
    let (stub, data) = (Stub::new(), folder());
    let bounds = Bounds { max_leases: 3, max_leases_per_workspace: 2, ..bounds() };
    let service = Running::with(stub.clone(), data.path(), Tokens::default(), bounds).await;
    let (_, first) = service.lease("a", &lease_request("w")).await;
    assert_eq!(service.lease("b", &lease_request("w")).await.0, 201);
    let (status, problem) = service.lease("c", &lease_request("w")).await;
    assert_eq!((status, code(&problem)), (429, "quota"));
    assert!(problem["error"]["message"].as_str().expect("a message").contains("workspace"), "{problem}");
    assert_eq!(service.lease("c", &lease_request("v")).await.0, 201);
    let full = service.ask(Method::POST, POOL, "", "d", Some(&lease_request("u"))).await;
    assert_eq!(full.status(), 429);
    assert!(full.headers().contains_key("retry-after"));
    assert_eq!(service.lease("a", &lease_request("w")).await.0, 200, "a known lease needs no room");
    assert_eq!(service.json(Method::DELETE, &path(&first), "", None).await.0, 204);
    assert_eq!(service.lease("d", &lease_request("u")).await.0, 201);
}

/// Whatever workspaces it is for, and whatever others have.
#[tokio::test]
async fn a_token_takes_no_more_than_its_own_share() {
    let (stub, data) = (Stub::new(), folder());
    let token = |at: usize| format!("token-{at}-0123456789-abcdef");
    let tokens =
        [("ci", 1, ""), ("lab", 2, "max_leases = 1\n"), ("free", 3, "max_leases = 5\n")].map(|(name, at, more)| {
            let sha256 = hash_token(&token(at)).expect("long enough");
            format!("[[tokens]]\nname = \"{name}\"\nsha256 = \"{sha256}\"\nworkspaces = [\"*\"]\n{more}")
        });
    std::fs::write(data.path().join("tokens"), tokens.concat()).expect("written");
    let tokens = Tokens::read(&data.path().join("tokens")).expect("sound");
    let bounds = Bounds { max_leases: 10, max_leases_per_token: 2, ..bounds() };
    let service = Running::with(stub.clone(), &data.path().join("pool"), tokens, bounds).await;
    let lease = async |at: usize, key: &str, workspace: &str| {
        let asked = service.ask(Method::POST, POOL, &token(at), key, Some(&lease_request(workspace))).await;
        let (status, patient) = (asked.status().as_u16(), asked.headers().contains_key("retry-after"));
        let body: Value = asked.json().await.expect("JSON");
        (status, patient, body)
    };
    for (at, most) in [(1, 2), (2, 1), (3, 5)] {
        for key in 0..most {
            assert_eq!(lease(at, &format!("k{key}"), &format!("w{key}")).await.0, 201, "{at} {key}");
        }
        let (status, patient, problem) = lease(at, "more", "w").await;
        assert_eq!((status, patient, code(&problem)), (429, true, "quota"), "{at}");
        assert!(problem["error"]["message"].as_str().expect("a message").contains("the token"), "{problem}");
        assert_eq!(lease(at, "k0", "w0").await.0, 200, "a known lease needs no room");
    }
}

#[tokio::test]
async fn a_token_sees_its_workspaces_only() {
    let (stub, data) = (Stub::new(), folder());
    let (one, two, all) = (TOKEN, "a-token-of-the-tests-1", "a-token-of-the-tests-2");
    let tokens = tokens(&[("one", one, &["w"]), ("two", two, &["v"]), ("all", all, &["*"])]);
    let service = Running::with(stub.clone(), data.path(), tokens, bounds()).await;
    for token in ["", "wrong-token-of-the-tests"] {
        for route in [POOL, "/api/v1/offers", "/metrics"] {
            let refused = service.ask(Method::GET, route, token, "", None).await;
            assert!(refused.headers().contains_key("www-authenticate"));
            assert_eq!(code(&read(refused).await.1), "unauthorized", "{route}");
        }
    }
    for route in ["/healthz", "/api/v1/openapi.json"] {
        assert_eq!(service.json(Method::GET, route, "", None).await.0, 200, "{route}");
    }
    let lease = async |token: &str, workspace: &str| {
        read(service.ask(Method::POST, POOL, token, "k", Some(&lease_request(workspace))).await).await
    };
    assert_eq!(lease(one, "v").await.0, 403);
    let (_, of_one) = lease(one, "w").await;
    let (status, of_two) = lease(two, "v").await;
    assert_eq!(status, 201, "another token's key is another key");
    assert_ne!(of_one["lease_id"], of_two["lease_id"]);
    let seen = async |token: &str| {
        let (_, json) = read(service.ask(Method::GET, POOL, token, "", None).await).await;
        json["leases"].as_array().expect("leases").clone()
    };
    assert_eq!((seen(one).await.len(), seen(all).await.len()), (1, 2));
    assert!(seen(all).await.iter().all(|lease| lease["idempotency_key"].is_null()));
    // A lease of another workspace looks like one that there never was, whatever is asked for.
    let renew = json!({ "ttl_s": 900 });
    let never = format!("{POOL}/pool-0123456789abcdef01234567");
    for (method, more, body) in
        [(Method::GET, "", None), (Method::DELETE, "", None), (Method::POST, "/renew", Some(&renew))]
    {
        let foreign = read(service.ask(method.clone(), &format!("{}{more}", path(&of_two)), one, "", body).await).await;
        let unknown = read(service.ask(method.clone(), &format!("{never}{more}"), one, "", body).await).await;
        assert_eq!((foreign.0, code(&foreign.1)), (404, "not_found"), "{method}{more}");
        assert_eq!(foreign, unknown, "{method}{more}");
    }
    assert_eq!(service.ask(Method::DELETE, &path(&of_two), all, "", None).await.status(), 204);
    assert_eq!(stub.living(), 1);
}

#[tokio::test]
async fn leases_end_by_themselves_unless_they_are_renewed() {
    let (stub, data) = (Stub::new(), folder());
    let service = Running::start(stub.clone(), data.path()).await;
    let (_, kept) = service.lease("kept", &lease_request("w")).await;
    service.lease("left", &lease_request("w")).await;
    service.later(500);
    let renewed =
        service.json(Method::POST, &format!("{}/renew", path(&kept)), "", Some(&json!({ "ttl_s": 3600 }))).await;
    assert_eq!(renewed.0, 200);
    assert_eq!(renewed.1["expires_at"], "2027-01-15T09:00:00Z", "the longest life is counted from the beginning");
    service.later(101);
    wait_for!("the one that is over is gone", stub.living() == 1);
    wait_for!("only the renewed one is listed", service.leases().await.len() == 1);
    assert_eq!(service.lease("left", &lease_request("w")).await.0, 410);
    service.later(3000);
    wait_for!("the longest life is over", stub.living() == 0);
    let renew = format!("{}/renew", path(&kept));
    let again = async || service.json(Method::POST, &renew, "", Some(&json!({ "ttl_s": 60 }))).await.0;
    // Between its machine's end and the ledger's it is over, and no more.
    wait_for!("its end is in the ledger", again().await == 404);
    // Keys are forgotten after a day.
    service.later(25 * 3600);
    wait_for!("a forgotten key is a new one", service.lease("left", &lease_request("w")).await.0 == 201);
}

#[tokio::test]
async fn what_a_killed_service_asked_for_is_given_back_by_the_next() {
    let (stub, data) = (Stub::with_gate(1), folder());
    let mut service = Running::start(stub.clone(), data.path()).await;
    let (_, held) = service.lease("held", &lease_request("w")).await;
    // The caller goes away before the provider has answered.
    left_when!(service.lease("asked", &lease_request("w")), stub.living() == 2);
    service.kill();
    let service = Running::start(stub.clone(), data.path()).await;
    wait_for!("what was never answered is gone", stub.living() == 1);
    service.later(11);
    wait_for!("and not listed", service.leases().await.len() == 1);
    assert_eq!(service.lease("held", &lease_request("w")).await, (200, held), "what is held was lost");
    stub.gate.add_permits(1);
    assert_eq!(service.lease("asked", &lease_request("w")).await.0, 201, "nobody gave that key back");
}

#[tokio::test]
async fn a_machine_that_comes_true_after_the_next_start_is_given_back() {
    let (stub, data) = (Stub::with_gate(0), folder());
    let mut service = Running::start(stub.clone(), data.path()).await;
    for key in ["one", "two"] {
        let before = stub.living();
        left_when!(service.lease(key, &lease_request("w")), stub.living() > before);
    }
    service.kill();
    let late = stub.made.lock().expect("sound").clone();
    let service = Running::start(stub.clone(), data.path()).await;
    wait_for!("nothing is there yet", stub.living() == 0);
    // Killed again: the ledger still knows that a machine may appear.
    drop(service);
    let service = Running::start(stub.clone(), data.path()).await;
    stub.made.lock().expect("sound").clone_from(&late);
    service.later(9);
    wait_for!("what came late is given back", stub.living() == 0);
    assert_eq!(service.leases().await.len(), 2, "it is not looked for any more");
    stub.made.lock().expect("sound").clone_from(&late);
    // A caller's release waits until the lease has settled.
    let give_back = async {
        let (status, _) = service.json(Method::DELETE, &format!("{POOL}?idempotency_key=one"), "", None).await;
        status
    };
    let later = async { service.later(2) };
    assert_eq!(tokio::join!(give_back, later).0, 204);
    wait_for!("all is gone, and nobody waits for more", stub.living() == 0 && service.leases().await.is_empty());
}

#[tokio::test]
async fn a_ledger_of_the_first_version_is_taken_up() {
    let (stub, data) = (Stub::new(), folder());
    let mut service = Running::start(stub.clone(), data.path()).await;
    let (_, lease) = service.lease("k", &lease_request("w")).await;
    service.kill();
    let older = async || {
        let connection = rusqlite::Connection::open(data.path().join("pool.db")).expect("a ledger");
        connection.execute_batch(
            "drop index if exists leases_owner; drop index if exists leases_changed;
             drop trigger if exists resources_of_released; drop trigger if exists resources_of_deleted;
             drop table if exists resources; alter table leases drop column settles; pragma user_version = 1;",
        )
    };
    wait_for!("the killed one lets go", older().await.is_ok());
    let service = Running::start(stub.clone(), data.path()).await;
    assert_eq!(service.lease("k", &lease_request("w")).await, (200, lease));
}

#[tokio::test]
async fn what_is_known_of_a_machine_outlives_the_service_and_goes_with_the_lease() {
    let (stub, data) = (Stub::new(), folder());
    let mut service = Running::start(stub.clone(), data.path()).await;
    assert_eq!(service.lease("k", &lease_request("w")).await.0, 201);
    service.kill();
    let service = Running::start(stub.clone(), data.path()).await;
    let (status, _) = service.json(Method::DELETE, &format!("{POOL}?idempotency_key=k"), "", None).await;
    assert_eq!((status, stub.living()), (204, 0));
    assert_eq!(*stub.asked.lock().expect("sound"), [[Resource::new("machine", 1)]]);
    let connection = rusqlite::Connection::open(data.path().join("pool.db")).expect("a ledger");
    let left = connection.query_row("select count(*) from resources", [], |row| row.get::<_, u32>(0));
    assert_eq!(left.expect("a number"), 0, "the record of a lease that is gone stays");
}

#[tokio::test]
async fn a_caller_that_goes_away_finds_his_lease_by_its_key() {
    let (stub, data) = (Stub::with_gate(0), folder());
    let service = Running::start(stub.clone(), data.path()).await;
    let body = lease_request("w");
    left_when!(service.lease("k", &body), stub.living() == 1);
    assert_eq!(service.leases().await[0]["state"], "asked");
    stub.gate.add_permits(1);
    wait_for!("held", service.leases().await[0]["state"] == "held");
    assert_eq!(service.lease("k", &body).await.0, 200);
    assert_eq!(stub.makes.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn giving_back_what_is_not_granted_yet_ends_the_wait() {
    let (stub, data) = (Stub::with_gate(0), folder());
    let service = Running::start(stub.clone(), data.path()).await;
    let body = lease_request("w");
    let give_back = async {
        wait_for!("asked", stub.living() == 1);
        service.json(Method::DELETE, &format!("{POOL}?idempotency_key=k"), "", None).await.0
    };
    let ((status, problem), gone) = tokio::join!(service.lease("k", &body), give_back);
    assert_eq!((status, code(&problem), gone), (410, "gone", 204));
    assert_eq!(stub.living(), 0);
    // The key was released before its request arrived: the request is late.
    assert_eq!(service.json(Method::DELETE, &format!("{POOL}?idempotency_key=late"), "", None).await.0, 204);
    assert_eq!(service.lease("late", &body).await.0, 410);
    assert_eq!(stub.makes.load(Ordering::SeqCst), 1);
    assert_eq!(service.leases().await, Vec::<Value>::new());
}

#[tokio::test]
async fn what_cannot_be_given_back_is_tried_for_ever_and_shown_as_stuck() {
    let (stub, data) = (Stub::new(), folder());
    let service = Running::start(stub.clone(), data.path()).await;
    let (_, lease) = service.lease("k", &lease_request("w")).await;
    stub.stubborn.store(6, Ordering::SeqCst);
    let (status, shown) = service.json(Method::DELETE, &path(&lease), "", None).await;
    assert_eq!((status, &shown["state"], &shown["failures"]), (202, &json!("releasing"), &json!(1)));
    assert_eq!(shown["fault"], "lian::stub::stubborn: not now");
    for failures in 2..=6 {
        service.later(600);
        wait_for!("another try", service.leases().await[0]["failures"] == failures);
    }
    assert_eq!(service.leases().await[0]["state"], "stuck");
    let metrics = service.ask(Method::GET, "/metrics", "", "", None).await.text().await.expect("text");
    assert!(metrics.contains("lian_build_pool_leases{state=\"stuck\"} 1\n"), "{metrics}");
    assert!(metrics.contains("lian_build_pool_release_failures_total 6\n"), "{metrics}");
    service.later(600);
    wait_for!("gone at last", service.leases().await.is_empty());
    assert_eq!(stub.living(), 0);
}

#[tokio::test]
async fn a_machine_that_is_not_granted_leaves_nothing_and_its_key_may_be_used_again() {
    let (stub, data) = (Stub::new(), folder());
    let service = Running::start(stub.clone(), data.path()).await;
    let (id, words) = ("lian::stub::fault", "no machine");
    let of_kind = |kind| Fault::new(kind, id, words);
    for (fault, expected) in [
        (of_kind(FaultKind::Infrastructure), 503),
        (of_kind(FaultKind::Unavailable), 409),
        (Fault::denied(id, words), 409),
        (Fault::configuration(id, words), 501),
    ] {
        let fault = fault.help("wait");
        *stub.fault.lock().expect("sound") = Some(fault);
        let (status, problem) = service.lease("k", &lease_request("w")).await;
        assert_eq!((status, code(&problem)), (expected, "lian::stub::fault"));
        assert_eq!(stub.living(), 0, "what was half made stays");
    }
    stub.here.store(true, Ordering::SeqCst);
    assert_eq!(service.lease("k", &lease_request("w")).await.0, 501);
    stub.here.store(false, Ordering::SeqCst);
    assert_eq!(service.lease("k", &lease_request("w")).await.0, 201);
}

#[tokio::test]
async fn a_provider_that_panics_keeps_nobody_waiting() {
    let (stub, data) = (Stub::new(), folder());
    let service = Running::start(stub.clone(), data.path()).await;
    stub.gate.close();
    let (status, problem) = service.lease("k", &lease_request("w")).await;
    assert_eq!((status, code(&problem)), (503, "lian::serve::bug"));
    wait_for!("what it left is given back", stub.living() == 0 && service.leases().await.is_empty());
}

#[tokio::test]
async fn an_end_keeps_what_is_held_and_gives_back_what_is_not_granted() {
    let (stub, data) = (Stub::with_gate(1), folder());
    let mut service = Running::start(stub.clone(), data.path()).await;
    service.lease("held", &lease_request("w")).await;
    let waiting = {
        let (address, client) = (service.base.clone(), service.client.clone());
        tokio::spawn(async move {
            let request = client.post(format!("{address}{POOL}")).header("Idempotency-Key", "asked");
            read(request.json(&lease_request("w")).send().await.expect("an answer")).await
        })
    };
    wait_for!("asked", stub.living() == 2);
    service.stop();
    let (status, problem) = waiting.await.expect("no panic");
    assert_eq!((status, code(&problem)), (503, "stopping"));
    wait_for!("what was not granted is gone", stub.living() == 1);
    let service = Running::start(stub.clone(), data.path()).await;
    assert_eq!(service.leases().await[0]["idempotency_key"], "held");
}

#[tokio::test]
async fn what_makes_no_sense_is_a_problem_in_json() {
    let (stub, data) = (Stub::new(), folder());
    let service = Running::start(stub.clone(), data.path()).await;
    let large = json!({ "workspace": "w".repeat(70_000) });
    assert_eq!(code(&service.lease("k", &large).await.1), "too_large");
    assert_eq!(code(&service.lease("k", &json!([])).await.1), "malformed");
    assert_eq!(code(&service.lease("a b", &lease_request("w")).await.1), "idempotency_key");
    assert_eq!(code(&service.json(Method::GET, "/nothing", "", None).await.1), "not_found");
    assert_eq!(code(&service.json(Method::PUT, POOL, "", None).await.1), "method");
    let keyless = [(Method::POST, "`Idempotency-Key`"), (Method::DELETE, "?idempotency_key=KEY")];
    for (method, way_out) in keyless {
        let problem = service.json(method, POOL, "", Some(&lease_request("w"))).await.1;
        assert_eq!(code(&problem), "idempotency_key");
        let help = problem["error"]["help"].as_str().expect("help");
        assert!(help.contains(way_out), "{help}");
    }
    for id in
        ["nothing", "..%2F..%2Fetc", "%FF", "pool-0123456789abcdef01234567", "pool-0123456789ABCDEF01234567", "'--"]
    {
        let (status, problem) = service.json(Method::DELETE, &format!("{POOL}/{id}"), "", None).await;
        assert_eq!((status, code(&problem)), (404, "not_found"), "{id}");
    }
    let mut wrong = lease_request("w");
    wrong["ttl_s"] = json!(3601);
    assert!(service.lease("k", &wrong).await.1["error"]["message"].as_str().expect("text").contains("60 to 3600"));
    let metrics = service.ask(Method::GET, "/metrics", "", "", None).await.text().await.expect("text");
    assert!(metrics.contains("lian_build_pool_requests_total{method=\"POST\",code=\"413\"} 1\n"), "{metrics}");
    assert_eq!(stub.makes.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn no_tokens_no_open_door_and_one_service_a_folder() {
    let place = |text: &str| text.parse::<Listen>().expect("a place");
    for address in ["0.0.0.0:0", "127.0.0.1:0", "[::1]:0"] {
        let tokenless = listen(&place(address), &Tokens::default()).await;
        assert!(matches!(tokenless, Err(ServeError::Open { .. })), "{address}");
    }
    let known = tokens(&[("one", TOKEN, &["*"])]);
    assert!(listen(&place("0.0.0.0:0"), &known).await.is_ok());
    let (stub, data) = (Stub::new(), folder());
    let _service = Running::start(stub.clone(), data.path()).await;
    let second = Service::open(stub, data.path(), Tokens::default(), bounds()).await;
    assert!(matches!(second.err(), Some(ServeError::Held { .. })));
}
