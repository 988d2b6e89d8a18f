//! Tests of `progress`.

use proptest::prelude::*;

use super::super::tail::{END_BYTES, HEAD_BYTES, TAIL_LINES};
use super::*;

fn vertex(json: &str) -> String {
    format!(r#"{{"vertexes":[{{"digest":"sha256:a","name":"[2/3] RUN x",{json}}}]}}"#)
}

#[test]
fn merges_records_and_adds_the_intervals_up() {
    let mut progress = Progress::default();
    let at = |second: &str| format!("2026-11-22T22:42:{second}Z");
    let started = progress.line(&vertex(&format!(r#""started":"{}""#, at("10.0"))));
    assert!(matches!(&started[..], [BuildEvent::Vertex { state: VertexState::Started, duration_ms: None, .. }]));
    assert_eq!(progress.line(&vertex(&format!(r#""started":"{}""#, at("10.0")))), []);
    let first = format!(r#""started":"{}","completed":"{}""#, at("10.0"), at("10.5"));
    assert_eq!(progress.line(&vertex(&first)).len(), 1);
    let again = format!(r#""started":"{}""#, at("11.0"));
    assert_eq!(progress.line(&vertex(&again)).len(), 1);
    let second = format!(r#""started":"{}","completed":"{}""#, at("11.0"), at("12.0"));
    let ended = progress.line(&vertex(&second));
    let [BuildEvent::Vertex { state: VertexState::Completed, duration_ms: Some(1500), error: None, .. }] = &ended[..]
    else {
        panic!("{ended:?}")
    };
    assert_eq!(progress.steps(), (1, 0));
}

#[test]
fn cached_is_any_record_that_says_so() {
    let mut progress = Progress::default();
    progress.line(&vertex(r#""cached":true,"started":"2026-11-22T22:42:10Z","completed":"2026-11-22T22:42:10Z""#));
    progress.line(&vertex(r#""started":"2026-11-22T22:42:10Z","completed":"2026-11-22T22:42:10Z""#));
    assert_eq!(progress.steps(), (1, 1));
    assert!(progress.failures().is_empty());
}

#[test]
fn keeps_the_last_lines_and_the_words_after_the_records() {
    let mut progress = Progress::default();
    let text = (0..40).map(|n| format!("line {n}\n")).collect::<String>() + "no newline";
    let data = base64::engine::general_purpose::STANDARD.encode(text);
    let events = progress.line(&format!(r#"{{"logs":[{{"vertex":"sha256:a","stream":2,"data":"{data}"}}]}}"#));
    assert!(matches!(&events[..], [BuildEvent::Log { .. }]));
    progress.line(&vertex(r#""started":"2026-11-22T22:42:10Z","error":"exit code: 1""#));
    progress.line(r#"time="2026-11-22T22:42:53Z" level=warning msg="fsverity""#);
    progress.line("error: failed to solve: it broke");
    let failures = progress.failures();
    assert_eq!(failures[0].name, "[2/3] RUN x");
    assert_eq!(failures[0].log_tail.len(), 12);
    assert_eq!(failures[0].log_tail[0], "line 29");
    assert_eq!(failures[0].log_tail[11], "no newline");
    assert_eq!(progress.text(), "error: failed to solve: it broke");
}

/// A step whose log is these lines.
fn failed_after(lines: &[String]) -> VertexFailure {
    let mut progress = Progress::default();
    let text = lines.join("\n") + "\n";
    // As it comes: in pieces that end anywhere.
    for piece in text.as_bytes().chunks(700) {
        let data = base64::engine::general_purpose::STANDARD.encode(piece);
        progress.line(&format!(r#"{{"logs":[{{"vertex":"sha256:a","stream":2,"data":"{data}"}}]}}"#));
    }
    let error = r#"process \"/bin/sh -c cargo b\" did not complete successfully: exit code: 101"#;
    progress.line(&vertex(&format!(r#""started":"2026-11-22T22:42:10Z","error":"{error}""#)));
    progress.failures().remove(0)
}

#[test]
fn a_compiler_that_was_killed_is_seen_behind_its_long_command_and_before_many_lines() {
    let command = format!("`rustc --crate-name app {}`", "--extern a=/workspace/target/liba.rlib ".repeat(128));
    assert!(command.len() > 5_000);
    let killed = format!("  process didn't exit successfully: {command} (signal: 9, SIGKILL: kill)");
    let others = |count: usize| (0..count).map(|n| format!("warning: unused variable {n}"));
    let lines: Vec<String> = [killed.clone()].into_iter().chain(others(20)).collect();
    let failure = failed_after(&lines);
    assert!(failure.tells_kill, "{failure:?}");
    let text = "killed at 7.8 of 8.0 GB".to_owned();
    let oom = super::super::classify::OomEvidence::Counter { text };
    let failed = super::super::classify::Failure { vertices: vec![failure], exit: Some(1), oom, ..Default::default() };
    assert_eq!(super::super::classify::classify(&failed).kind, crate::domain::model::FaultKind::OutOfMemory);

    let shown = failed_after(std::slice::from_ref(&killed)).log_tail;
    assert!(shown[0].starts_with("  process didn't") && shown[0].ends_with("(signal: 9, SIGKILL: kill)"), "{shown:?}");
    assert!(shown[0].contains(" … ") && shown[0].len() < 2_000, "{}", shown[0].len());

    // Long ago is not why it ended; and what only speaks of a kill is none.
    let lines: Vec<String> = [killed].into_iter().chain(others(1_001)).collect();
    assert!(!failed_after(&lines).tells_kill);
    assert!(!failed_after(&["expected (signal: 9, SIGKILL: kill), got 0".to_owned()]).tells_kill);
}

#[test]
fn tells_steps_from_the_rest() {
    for step in ["[1/2] FROM x", "[stage-1 2/3] RUN a", "[linux/arm64 build 10/12] COPY . ."] {
        assert!(is_step(step), "{step}");
    }
    for other in ["[internal] load .dockerignore", "exporting to oci image format", "[context base] load", "", "[1/]  "]
    {
        assert!(!is_step(other), "{other}");
    }
}

proptest! {
    #[test]
    fn no_line_makes_it_stumble(lines in proptest::collection::vec(".{0,200}", 0..20)) {
        let mut progress = Progress::default();
        for line in &lines {
            progress.line(line);
        }
        progress.failures();
    }

    #[test]
    fn a_tail_is_bounded(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..400), 0..40)) {
        let mut tail = Tail::default();
        for chunk in &chunks {
            tail.push(chunk, false);
        }
        let lines = tail.lines();
        prop_assert!(lines.len() <= TAIL_LINES);
        prop_assert!(lines.iter().all(|line| line.len() <= 3 * (HEAD_BYTES + END_BYTES) + 5));
    }
}

#[test]
fn a_character_that_is_cut_is_told_whole_with_the_next_piece() {
    let text = "a§ – 🦀é";
    for at in 0..=text.len() {
        let mut progress = Progress::default();
        let mut told = String::new();
        for piece in [&text.as_bytes()[..at], &text.as_bytes()[at..]] {
            let data = base64::engine::general_purpose::STANDARD.encode(piece);
            for event in progress.line(&format!(r#"{{"logs":[{{"vertex":"v","data":"{data}"}}]}}"#)) {
                let BuildEvent::Log { text, .. } = event else { panic!("{event:?}") };
                told.push_str(&text);
            }
        }
        assert_eq!(told, text, "cut at {at}");
    }
}

#[test]
fn text_that_is_no_report_is_kept_up_to_a_bound_and_its_end_wins() {
    let mut progress = Progress::default();
    for number in 0..100_000 {
        progress.line(&format!("warning {number} of a client that does not end"));
    }
    progress.line(&format!("{}the end", "§".repeat(TEXT_BYTES)));
    progress.line("error: failed to solve");
    let text = progress.text();
    assert!(text.len() <= TEXT_BYTES && text.ends_with("the end\nerror: failed to solve"), "{}", text.len());
}
