//! What the client of Proxmox VE does with answers that its API never gives. Not responsible for: what sound ones mean.

use std::time::Duration;

use proptest::prelude::*;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::api::answer;
use super::api_error::MESSAGE_CHARS;
use super::machines::{listed, read_config};
use super::mark::Mark;
use crate::domain::base::mutated::mutated_json;
use crate::system::peer::Answer;

fn answers() -> Vec<Value> {
    let mark = json!({"lease": "r-1", "run": "r", "owner": "ann", "expires": 1_790_000_000_000_u64, "created": 5});
    vec![
        json!({"data": [{"vmid": 5000, "name": "lian-ann-r-1", "tags": "lian;x"}, {"vmid": "5001", "tags": "a b"}]}),
        json!({"data": {"name": "lian-ann-r-1", "tags": "lian", "description": mark.to_string(), "template": "1",
            "lock": "clone", "sshkeys": "ssh-ed25519%20AAAA"}}),
        json!({"data": null, "message": "it failed\n", "errors": {"vmid": "is not a number", "x": [1]}}),
    ]
}

proptest! {
    #[test]
    fn any_bytes_are_an_answer_or_a_fault(bytes in mutated_json(answers()), status in 100..600_u16) {
        let status = StatusCode::from_u16(status).expect("a status");
        let given = Answer { status, headers: reqwest::header::HeaderMap::new(), phrase: None, body: bytes };
        match answer(&Method::GET, "qemu", Ok(given)) {
            Ok(data) => {
                listed(&data);
                if let Some(mark) = read_config(&data).mark {
                    prop_assert!(mark.name().len() <= 63);
                    prop_assert_eq!(Mark::read(&mark.text()), Some(mark));
                }
            }
            Err(error) => {
                let _ = (error.retry(), error.is_gone(), error.is_taken());
                let fault = error.fault(Duration::MAX);
                prop_assert!(fault.message.chars().count() <= MESSAGE_CHARS + 100, "{} bytes", fault.message.len());
            }
        }
    }
}
