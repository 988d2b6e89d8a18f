//! What the client of Hetzner Cloud does with answers that its API never gives. Not responsible for: what sound ones mean.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::access::Access;
use super::api::{Api, Timeouts, parse};
use super::error::{ApiError, MESSAGE_CHARS};
use super::model::{Action, Created, PrimaryIp, Server, ServerType, SshKey};
use super::names;
use super::offers::{Fees, candidates, configured, offer};
use super::settings::HcloudSettings;
use crate::domain::base::mutated::mutated_json;
use crate::domain::base::{LayerName, LeaseId, RunId};
use crate::domain::model::Size;
use crate::domain::ports::AcquireRequest;
use crate::domain::sizing::ladder;

fn server_type() -> Value {
    json!({"name": "cax11", "cores": 2, "memory": 4.0, "architecture": "arm",
        "prices": [{"location": "fsn1", "price_hourly": {"net": "0.0060000000"}}, {"location": "nbg1"}]})
}

fn server() -> Value {
    json!({"id": 7, "name": "lian-ann-r-1", "status": "running", "created": "2026-11-22T22:42:10+00:00",
        "labels": {"lian": "1", names::OWNER: "ann", names::LEASE: "r-1", names::EXPIRES: "1790000000"},
        "public_net": {"ipv4": {"ip": "192.0.2.7"}, "ipv6": {"ip": "2001:db8::/64"}},
        "server_type": server_type(), "location": {"name": "fsn1"}})
}

fn answers() -> Vec<Value> {
    let action = json!({"id": 1, "status": "error", "error": {"code": "x", "message": "y"}});
    vec![
        json!({"pricing": {"currency": "EUR", "primary_ips": [{"type": "ipv4", "prices":
            [{"location": "fsn1", "price_hourly": {"net": "18446744073709.0"}}]}]},
            "server_types": [server_type(), server_type()]}),
        json!({"server": server(), "action": action, "servers": [server()], "ssh_keys":
            [{"id": 3, "name": "k", "public_key": "ssh-ed25519 AAAA", "labels": {}}], "primary_ips": [{"id": 4}]}),
        json!({"error": {"code": "resource_unavailable", "message": "sold out"}}),
    ]
}

fn request() -> AcquireRequest {
    let size =
        Size { runner_type: "small".into(), cpu: 1, memory_gb: 1, time_budget_min: 1, tier: "explicit".to_owned() };
    let (run, layer, platform) = (RunId::from("r"), LayerName::from("l"), "linux/arm64".into());
    let (lease, lifetime) = (LeaseId::from("r-1"), std::time::Duration::ZERO);
    AcquireRequest { lease, run, layer, size, platform, lifetime, authorized_key: None }
}

proptest! {
    #[test]
    fn any_bytes_are_an_answer_or_a_fault(bytes in mutated_json(answers()), status in 100..600_u16) {
        let error = ApiError::from_answer(status, &bytes, None);
        let _ = (error.retry(), error.is_sold_out(), error.may_have_worked());
        let fault = error.into_fault("rent a server");
        prop_assert!(fault.message.chars().count() <= 2 * MESSAGE_CHARS + 100, "{} bytes", fault.message.len());

        let Ok(answer) = serde_json::from_slice::<Value>(&bytes) else { return Ok(()) };
        let fees = Fees::read(&answer, true);
        let settings = HcloudSettings::default();
        if let Ok(types) = parse::<Vec<ServerType>>(answer["server_types"].clone()) {
            let offers: Vec<_> = types.iter().map(|known| offer(known, ["fsn1", "nbg1"], &fees)).collect();
            drop(ladder(&request().size, &offers, &"linux/arm64".into()));
            drop(candidates(&settings, &types, &request()));
            drop(configured(&settings, types));
        }
        drop(parse::<Created>(answer.clone()));
        drop(parse::<Action>(answer["action"].clone()));
        drop(parse::<Vec<SshKey>>(answer["ssh_keys"].clone()));
        drop(parse::<Vec<PrimaryIp>>(answer["primary_ips"].clone()));
        for server in parse::<Vec<Server>>(answer["servers"].clone()).unwrap_or_default() {
            server.place();
            names::expires(&server.labels);
            names::are_of(&server.labels, "ann", "r-1");
            names::are_kept(&server.labels, &BTreeMap::new());
            prop_assert!(names::server(&server.name, &server.status).len() <= 63);
        }
    }
}

/// In a release such a sum would begin again at nothing: the dearest server would be the cheapest.
#[test]
fn a_price_beyond_all_numbers_is_the_highest_and_not_the_lowest() {
    let most = json!({"location": "fsn1", "price_hourly": {"net": "18446744073709.551615"}});
    let pricing = json!({"pricing": {"primary_ips": [{"type": "ipv4", "prices": [most]}]}});
    let known: ServerType = serde_json::from_value(json!({
        "name": "cax11", "cores": 2, "memory": 4.0, "architecture": "arm", "prices": [most]
    }))
    .expect("a type");
    let offer = offer(&known, ["fsn1"], &Fees::read(&pricing, true));
    assert_eq!(offer.price.expect("a price").hourly_micros, u64::MAX);
}

/// Each page names a next one. Half a list would be worse than none: what it does not show would count as gone.
#[tokio::test]
async fn a_list_that_never_ends_is_an_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for (page, stream) in listener.incoming().enumerate() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 4096]);
            let body = json!({"servers": [], "meta": {"pagination": {"next_page": page + 2}}}).to_string();
            let length = body.len();
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length:";
            let _ = stream.write_all(format!("{head} {length}\r\n\r\n{body}").as_bytes());
        }
    });
    let access = Access::new(format!("http://127.0.0.1:{port}"), "token").expect("an address");
    let api = Api::new(access, Timeouts::with_boot(std::time::Duration::from_secs(1))).expect("a client");
    let error = api.list::<Server>("servers", &[]).await.expect_err("it ended");
    assert!(error.to_string().contains("does not end after"), "{error}");
}
