//! A clock that is set in the middle of a run, as after a suspend or by NTP. Not responsible for: clocks that are off all
//! the time (see `hcloud::clocks`).

use std::process::Stdio;

use serde_json::Value;

use super::{BASE, Cloud, SESSION};
use crate::support::clock;
use crate::support::lines::read_until;

#[test]
fn a_clock_that_is_set_in_mid_run_changes_no_time_no_bill_and_no_lease() {
    for step in ["+9h", "-9h"] {
        let cloud = Cloud::new(SESSION, "");
        cloud.project.layer("one", BASE, "FROM base.example/busybox:1\nRUN echo first; sleep 3\n");
        cloud.project.layer("two", "  build_base = \"one\",", "FROM lamina/one\nRUN true\n");
        let file = cloud.project.path().join("clock");
        std::fs::write(&file, "+0h").expect("writable");
        let mut command = cloud.command(&["apply", "--format", "json"]);
        let mut child = command.envs(clock::set_by(&file)).stdout(Stdio::piped()).spawn().expect("the binary starts");
        let reading = read_until(&mut child, |line| line.contains("RUN echo first") && line.contains("started"));
        std::fs::write(&file, step).expect("writable");
        let (code, output) = reading.drain();
        assert_eq!(code, 0, "{step}: {output}");
        let events: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let times: Vec<u64> = events.iter().map(|event| event["at"].as_u64().expect("milliseconds")).collect();
        assert!(times.is_sorted(), "{step}: {output}");
        let took = times[times.len() - 1].abs_diff(times[0]);
        assert!(took < 3_600_000, "{step}: {took} ms: {output}");
        let granted = events.iter().filter(|event| event["type"] == "lease.granted").count();
        let cost = events.iter().find(|event| event["type"] == "run.cost").expect("a cost");
        assert_eq!((granted, cost["started_hours"].as_u64()), (1, Some(1)), "{step}: {output}");
        cloud.is_empty();
    }
}
