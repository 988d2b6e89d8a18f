//! What a dead run left, found again: with the credentials it was rented with, and though its request arrives late.

use std::process::Stdio;

use rusqlite::Connection;
use serde_json::json;

use super::{BASE, Cloud, SESSION};
use crate::support::hetzner::{Fake, FaultPlan, Kind, RENEWED, TOKEN};
use crate::support::lines::read_until;
use crate::support::project::{Ran, text};

/// Starts a run, waits until it holds a lease, and kills it.
pub(super) fn killed_while_it_builds(cloud: &Cloud) {
    cloud.project.layer("long", BASE, "FROM base.example/busybox:1\nRUN sleep 61; true\n");
    let mut child =
        cloud.command(&["apply", "--format", "json"]).stdout(Stdio::piped()).spawn().expect("the binary starts");
    let reading = read_until(&mut child, |line| line.contains("RUN sleep 61") && line.contains("started"));
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(reading.id()).expect("small")).expect("a process"),
        rustix::process::Signal::KILL,
    )
    .expect("killed");
    reading.drain();
}

pub(super) fn ledger(cloud: &Cloud) -> Connection {
    Connection::open(cloud.project.state().join("lian.db")).expect("a ledger")
}

#[test]
fn a_living_runs_machines_stay_though_somebody_removes_its_lock_file() {
    let cloud = Cloud::new(SESSION, "");
    cloud.project.layer("long", BASE, "FROM base.example/busybox:1\nRUN sleep 61; true\n");
    let mut child =
        cloud.command(&["apply", "--format", "json"]).stdout(Stdio::piped()).spawn().expect("the binary starts");
    let reading = read_until(&mut child, |line| line.contains("RUN sleep 61") && line.contains("started"));
    std::fs::remove_dir_all(cloud.project.state().join("runs")).expect("removed");
    let collected = cloud.lian(&["leases", "gc", "--format", "json"]).exits(0).json();
    assert_eq!((&collected["released"], cloud.fake.servers().len()), (&json!([]), 1), "{collected}");
    // The next run takes it for no dead one, either.
    cloud.project.layer("short", BASE, "FROM base.example/busybox:1\nRUN true\n");
    let ran = cloud.lian(&["apply", "--target", "short", "--provider", "local"]).exits(0);
    assert_eq!(cloud.fake.servers().len(), 1, "{}", ran.both());
    let process = rustix::process::Pid::from_raw(i32::try_from(reading.id()).expect("small")).expect("a process");
    rustix::process::kill_process(process, rustix::process::Signal::KILL).expect("killed");
    reading.drain();
    let collected = cloud.lian(&["leases", "gc", "--format", "json"]).exits(0).json();
    assert_eq!(collected["released"].as_array().map(Vec::len), Some(1), "{collected}");
    cloud.is_empty();
}

#[test]
fn a_lease_of_another_project_is_not_called_given_back_where_nothing_of_it_is_found() {
    let cloud = Cloud::new(SESSION, "");
    killed_while_it_builds(&cloud);
    let written: String = ledger(&cloud).query_row("select provider from leases", [], |row| row.get(0)).expect("a row");
    assert!(written.contains("\"digest\"") && !written.contains(TOKEN), "{written}");
    let other = Fake::start(std::sync::Arc::clone(&cloud.hosts) as _);
    let there = |token: &str| -> Ran {
        let mut command = cloud.command(&["leases", "gc", "--format", "json"]);
        command.env("HCLOUD_ENDPOINT", other.endpoint()).env("HCLOUD_TOKEN", token);
        command.output().expect("the binary starts").into()
    };
    for _ in 0..2 {
        let ran = there(TOKEN).exits(5);
        assert!(ran.stderr.contains("use the token of that project"), "{}", ran.both());
        assert_eq!(ran.json()["stuck"].as_array().expect("a list").len(), 1, "{}", ran.both());
        assert_eq!(cloud.fake.servers().len(), 1);
    }
    // Another token of the same project finds it.
    let mut renewed = cloud.command(&["leases", "gc", "--format", "json"]);
    let ran: Ran = renewed.env("HCLOUD_TOKEN", RENEWED).output().expect("the binary starts").into();
    let ran = ran.exits(0);
    assert_eq!(ran.json()["released"].as_array().expect("a list").len(), 1, "{}", ran.both());
    cloud.is_empty();
}

#[test]
fn a_request_that_arrives_long_after_it_was_written_down_is_looked_for_twice() {
    let cloud = Cloud::new(SESSION, "");
    cloud.project.layer("base", BASE, "FROM base.example/busybox:1\nRUN true\n");
    for _ in 0..20 {
        cloud.fake.fail_next(FaultPlan::new("POST /servers", Kind::LostRequest));
    }
    let mut child = cloud.command(&["apply"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while cloud.fake.times("POST /servers").is_empty() {
        assert!(std::time::Instant::now() < deadline, "no server was asked for");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    child.kill().expect("killed");
    child.wait().expect("it ended");
    cloud.fake.forgive();
    // It was written down long ago.
    ledger(&cloud).execute("update leases set asked = 1000", []).expect("written");
    let lease: String = ledger(&cloud).query_row("select id from leases", [], |row| row.get(0)).expect("a row");
    let name = cloud.fake.keys().into_iter().next().expect("a key was stored");
    let owner = name.trim_start_matches("lian-").trim_end_matches(&lease).trim_end_matches('-').to_owned();

    let first = cloud.lian(&["leases", "--format", "json"]).exits(0).json();
    assert_eq!(first["leases"].as_array().expect("a list").len(), 1, "forgotten at the first look: {first}");
    assert_eq!(text(&first["leases"][0]["state"]), "left");
    cloud.is_empty();
    let labels = [("lian", "1"), ("lian-owner", &owner), ("lian-lease", &lease), ("lian-expires", "4000000000")];
    cloud.fake.add_server(&name, &labels);
    // This machine's clock was hours ahead at the first look, and was set back since: nobody waits for hours.
    assert_eq!(ledger(&cloud).execute("update leases set changed = 4000000000000", []).expect("written"), 1);
    let mut child =
        cloud.command(&["leases", "gc", "--format", "json"]).stdout(Stdio::piped()).spawn().expect("it starts");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while child.try_wait().expect("waited for").is_none() {
        if std::time::Instant::now() > deadline {
            child.kill().expect("killed");
            panic!("it waits for a time that its clock shows in years");
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let collected = Ran::from(child.wait_with_output().expect("it ended")).exits(0).json();
    assert_eq!(collected["released"], json!([lease]));
    cloud.is_empty();
    assert_eq!(cloud.lian(&["leases", "--format", "json"]).exits(0).json()["leases"], json!([]));
}

#[test]
fn a_server_that_is_locked_for_long_keeps_no_later_command_from_its_work() {
    let cloud = Cloud::new(SESSION, "");
    killed_while_it_builds(&cloud);
    for _ in 0..10_000 {
        cloud.fake.fail_next(FaultPlan::new("DELETE /servers/{id}", Kind::Status(423, "locked")));
    }
    let began = std::time::Instant::now();
    let listed = cloud.lian(&["leases"]).exits(5);
    assert!(began.elapsed() < std::time::Duration::from_secs(30), "it took {:?}", began.elapsed());
    assert!(listed.stderr.contains("still being given back") && listed.stdout.contains("left"), "{}", listed.both());
    cloud.project.layer("long", BASE, "FROM base.example/busybox:1\nRUN true\n");
    let ran = cloud.lian(&["apply", "--provider", "local"]).exits(5);
    assert!(ran.stderr.contains("lian-build leases gc") && ran.stdout.contains("built"), "{}", ran.both());
    cloud.fake.forgive();
    let collected = cloud.lian(&["leases", "gc", "--format", "json"]).exits(0).json();
    assert_eq!(collected["released"].as_array().map(Vec::len), Some(1), "{collected}");
    cloud.is_empty();
}
