//! What the reader of buildctl's progress does with bytes that buildctl never writes. Not responsible for: what sound
//! ones mean (see `progress_tests`).

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use super::super::classify::{Failure, classify};
use super::super::tail::{END_BYTES, HEAD_BYTES, TAIL_LINES};
use super::*;
use crate::domain::base::mutated::{mutated_json, mutated_texts};

const TEXTS: [&str; 5] = [
    "error: failed to solve: failed to push r.example:5000/a/b@sha256:00: unexpected status from POST request to \
     https://x: 500 Internal Server Error: no",
    "error: failed to solve: process \"/bin/sh -c cargo b\" did not complete successfully: exit code: 137",
    "error: failed to solve: x: failed to resolve source metadata for docker.io/library/x:1: pull access denied",
    "error: failed to solve: failed to calculate checksum of ref a::b: \"/x\": not found\ntime=\"x\" level=warning",
    "dockerfile parse error on line 1: no SSH key \"\" forwarded, lstat /a: no such file or directory",
];

fn records() -> Vec<serde_json::Value> {
    let data = base64::engine::general_purpose::STANDARD.encode("error: \u{1b}[31mx\r\ny\u{fc}\n");
    let at = "2026-11-22T22:42:10.123456789Z";
    vec![
        json!({"vertexes": [{"digest": "sha256:a", "name": "[2/3] RUN x", "started": at, "completed": at, "cached": true,
            "error": "process \"x\" did not complete successfully: exit code: 1"}, {"digest": "sha256:b"}]}),
        json!({"statuses": [{"id": "x", "vertex": "sha256:a", "current": 5, "total": 9, "timestamp": at}],
            "logs": [{"vertex": "sha256:a", "stream": 2, "data": data}, {"vertex": "sha256:a", "data": data}],
            "warnings": [{"vertex": "sha256:a", "short": data, "level": 1}]}),
    ]
}

proptest! {
    #[test]
    fn any_bytes_are_progress_or_text(
        lines in vec(prop_oneof![3 => mutated_json(records()), 1 => mutated_texts(&TEXTS)], 1..6),
        exit in proptest::option::of(any::<i32>()),
    ) {
        let mut progress = Progress::default();
        for line in &lines {
            let told = progress.line(&String::from_utf8_lossy(line));
            // Each event stands for some bytes that came.
            prop_assert!(told.len() <= line.len(), "{} events of {} bytes", told.len(), line.len());
        }
        let (all, cached) = progress.steps();
        prop_assert!(cached <= all);
        let (vertices, text) = (progress.failures(), progress.text());
        prop_assert!(text.len() <= TEXT_BYTES);
        for vertex in &vertices {
            let longest = 3 * (HEAD_BYTES + END_BYTES) + 5;
            prop_assert!(vertex.log_tail.len() <= TAIL_LINES && vertex.causes.len() <= TAIL_LINES);
            prop_assert!(vertex.log_tail.iter().chain(&vertex.causes).all(|line| line.len() <= longest));
        }
        let fault = classify(&Failure { vertices, text, exit, ..Default::default() });
        prop_assert!(!fault.message.is_empty());
    }
}
