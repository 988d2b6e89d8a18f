//! What the client of a pool does with answers that no pool gives. Not responsible for: what sound ones mean.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::answers::refusal;
use super::*;
use crate::domain::base::mutated::mutated_json;
use crate::domain::model::Size;
use crate::domain::sizing::ladder;

fn answers() -> Vec<Value> {
    let at = "2026-11-22T22:42:10Z";
    let granted = json!({"lease_id": "1", "address": "192.0.2.7", "port": 22, "user": "root", "host_key": "ssh-ed25519 A",
        "runner_type": "cax11", "cpu": 2, "memory_gb": 4, "platform": "linux/arm64"});
    let offer = json!({"runner_type": "cax11", "cpu": 2, "memory_gb": 4, "platform": "linux/arm64",
        "price": {"currency": "EUR", "hourly_micros": 5000}});
    vec![
        json!({"offers": [offer, offer]}),
        json!({"leases": [{"lease_id": "1", "idempotency_key": "r-1", "runner_type": "cax11", "address": null,
            "state": "held", "created_at": at, "expires_at": at}]}),
        granted,
        json!({"error": {"code": "quota", "message": "it is full", "help": "give some back"}}),
    ]
}

proptest! {
    #[test]
    fn any_bytes_are_an_answer_or_a_fault(bytes in mutated_json(answers()), status in 300..600_u16) {
        let Ok(answer) = serde_json::from_slice::<Value>(&bytes) else { return Ok(()) };
        let status = reqwest::StatusCode::from_u16(status).expect("a status");
        let fault = Fault::from(refusal(status, &answer, None));
        let help = fault.help.unwrap_or_default();
        prop_assert!(fault.message.chars().count() < 1_100 && help.chars().count() <= 500, "{}", fault.message.len());

        if let Ok(Offers { offers }) = serde_json::from_value(answer.clone()) {
            let (cpu, memory_gb, tier) = (1, 1, "explicit".to_owned());
            let size = Size { runner_type: "small".into(), cpu, memory_gb, time_budget_min: 1, tier };
            if let Ok(rungs) = ladder(&size, &offers, &"linux/arm64".into()) {
                prop_assert!(rungs.len() <= offers.len());
            }
        }
        drop(serde_json::from_value::<Granted>(answer.clone()));
        for lease in serde_json::from_value::<Listed>(answer).map(|listed| listed.leases).unwrap_or_default() {
            let clock = crate::system::RemoteClock::default();
            time(&lease.created_at).map(|at| clock.here(RemoteTime(at)));
        }
    }
}
