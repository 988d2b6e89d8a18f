//! RunnerConnector that are not to be had, do not come up, are not who they should be, or are lost: the build goes on elsewhere, or
//! says why not, and every server goes back.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{BASE, Cloud, SESSION};
use crate::support::hetzner::{FaultPlan, Kind};
use crate::support::lines::read_until;
use crate::support::project::{Ran, text};

/// The two types of [`super::TYPES`].
const SMALL_AND_LARGE: [&str; 2] = if cfg!(target_arch = "aarch64") { ["cax11", "cax31"] } else { ["cpx11", "cpx31"] };

fn cloud(dockerfile: &str) -> Cloud {
    let cloud = Cloud::new(SESSION, "");
    cloud.project.layer("base", BASE, &format!("FROM base.example/busybox:1\n{dockerfile}\n"));
    cloud.project.write("catalog/base/.build-spec.ncl", "{ cpu = 2, memory_gb = 2 }");
    cloud
}

fn start(cloud: &Cloud) -> Child {
    let mut command = cloud.command(&["apply", "--format", "json"]);
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary starts")
}

fn signal(name: &str, process: u32) {
    assert!(Command::new("kill").args([name, &process.to_string()]).status().expect("kill").success());
}

/// Leases that were granted, in their order.
fn granted(output: &str) -> Vec<String> {
    let events = output.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let granted = events.filter(|event| event["type"] == "lease.granted");
    granted.map(|event| text(&event["lease"]).to_owned()).collect()
}

#[test]
fn what_is_sold_out_is_sought_in_every_location_and_then_in_the_next_type() {
    let cloud = cloud("RUN true");
    let [small, large] = SMALL_AND_LARGE;
    for (server_type, location) in [(small, "fsn1"), (small, "nbg1"), (small, "hel1"), (large, "fsn1")] {
        let (server_type, location) = (server_type.to_owned(), location.to_owned());
        cloud.fake.fail_next(FaultPlan::new("*", Kind::SoldOut { server_type, location }));
    }
    let ran = cloud.lian(&["apply", "--format", "json"]).exits(0);
    let end = ran.events().into_iter().find(|event| event["type"] == "step.finished").expect("an end");
    assert_eq!((text(&end["outcome"]), text(&end["runner_type"])), ("built", large), "{end}");
    assert_eq!(cloud.fake.times("POST /servers").len(), 5, "three places of the small type, two of the large one");
    assert_eq!(granted(&ran.stdout).len(), 1, "{}", ran.both());
    cloud.is_empty();
}

#[test]
fn a_server_that_does_not_come_up_in_time_is_deleted_and_told() {
    let cloud = cloud("RUN true");
    cloud.workflow("boot_timeout_s = 1, context_transfer = 'session", "", "");
    cloud.fake.actions_take(5);
    let ran = cloud.lian(&["apply", "--format", "json"]);
    assert!(ran.code == 4 && ran.stdout.contains("lian::hcloud::boot_timeout"), "{}", ran.both());
    assert!(granted(&ran.stdout).is_empty(), "{}", ran.both());
    let (rented, deleted) = (cloud.fake.bills().len(), cloud.fake.times("DELETE /servers/{id}").len());
    assert!(rented > 1 && deleted >= rented, "tried again on a new lease: {rented} rented, {deleted} deletions");
    cloud.is_empty();
}

#[test]
fn a_server_with_another_host_key_is_sent_nothing_and_given_back() {
    let cloud = cloud("RUN true");
    cloud.workflow("boot_timeout_s = 2, context_transfer = 'session", "", "");
    cloud.fake.answers_with_other_keys(u32::MAX);
    let ran = cloud.lian(&["apply", "--format", "json"]).exits(4);
    assert!(ran.stdout.contains("lian::remote::host_key"), "{}", ran.both());
    assert!(granted(&ran.stdout).is_empty() && cloud.fake.bills().len() > 1, "{}", ran.both());
    cloud.is_empty();
}

#[test]
fn a_server_that_another_answers_for_is_given_back_and_the_next_one_builds() {
    let cloud = cloud("RUN true");
    cloud.workflow("boot_timeout_s = 10, context_transfer = 'session", "", "");
    cloud.fake.answers_with_other_keys(1);
    let ran = cloud.lian(&["apply", "--format", "json"]).exits(0);
    let end = ran.events().into_iter().find(|event| event["type"] == "step.finished").expect("an end");
    assert_eq!((text(&end["outcome"]), cloud.fake.bills().len()), ("built", 2), "{}", ran.both());
    cloud.is_empty();
}

#[test]
fn a_runner_that_is_lost_while_it_builds_is_destroyed_and_another_one_builds() {
    for loss in ["link", "daemon"] {
        let cloud = cloud("RUN sleep 3; true");
        let mut child = start(&cloud);
        let reading = read_until(&mut child, |line| line.contains("RUN sleep 3") && line.contains("started"));
        let first = cloud.fake.servers().remove(0).id;
        match loss {
            "link" => cloud.hosts.cut_each(),
            _ => cloud.hosts.on_each("touch /run/lian/no-restart; pkill -9 buildkitd"),
        }
        let (reading, retried) = reading.read_on(|line| line.contains("\"step.retried\""));
        assert!(retried.contains("infrastructure"), "{loss}: {retried}");
        let (reading, _) = reading.read_on(|line| line.contains("\"lease.granted\""));
        assert!(cloud.fake.servers().iter().any(|server| server.id != first), "{loss}: it was not a new server");
        let (code, output) = reading.drain();
        let granted = granted(&output);
        assert!(code == 0 && granted.len() == 2 && granted[0] != granted[1], "{loss}: {code} {granted:?}\n{output}");
        assert_eq!(cloud.fake.bills().len(), 2, "{loss}");
        cloud.is_empty();
    }
}

#[test]
fn whatever_stops_a_run_its_server_goes_with_it() {
    for (name, building) in [("-HUP", true), ("-TERM", false), ("-HUP", false)] {
        let cloud = cloud("RUN sleep 60; true");
        let mut child = start(&cloud);
        let (code, output) = if building {
            let reading = read_until(&mut child, |line| line.contains("RUN sleep 60") && line.contains("started"));
            signal(name, reading.id());
            reading.drain()
        } else {
            let deadline = Instant::now() + Duration::from_secs(60);
            while cloud.fake.times("POST /servers").is_empty() {
                assert!(Instant::now() < deadline, "no server was asked for");
                std::thread::sleep(Duration::from_millis(2));
            }
            signal(name, child.id());
            let output: Ran = child.wait_with_output().expect("it ends").into();
            (output.code, output.stdout)
        };
        assert_eq!(code, 130, "{name}: {output}");
        assert_eq!(cloud.fake.bills().len(), 1, "{name}");
        cloud.is_empty();
    }
}

#[test]
fn a_server_without_ipv4_builds() {
    let cloud = cloud("RUN true");
    cloud.workflow("boot_timeout_s = 60, context_transfer = 'session", "ipv4 = false", "");
    let ran = cloud.lian(&["apply", "--format", "json"]).exits(0);
    assert_eq!(ran.outcomes(), ["base=built"]);
    assert_eq!(cloud.fake.bills().len(), 1);
    cloud.is_empty();
    let (_registry, in_it) = super::registry();
    cloud.workflow("boot_timeout_s = 60, context_transfer = 'rsync", "ipv4 = false", &in_it);
    assert_eq!(cloud.lian(&["apply", "--force", "base", "--format", "json"]).exits(0).outcomes(), ["base=built"]);
    cloud.is_empty();
}
