//! Builds on hosts over SSH: reached, built on, out of memory, lost, and left clean.

use std::process::Stdio;

use crate::support::lines::read_until;
use crate::support::project::{Project, Ran, text};
use crate::support::sandbox::{Sandbox, key_pair};

const BASE: &str = "  build_base = { image = \"base.example/busybox:1\" },";
/// Dies in 32 MB, lives in 128.
const HUNGRY: &str = "RUN x=$(head -c 50000000 /dev/zero | tr '\\0' a); echo ${#x}";

/// A project that builds on these hosts, with what goes into the workflow beside them.
pub fn project_on(hosts: &[(&Sandbox, u32, u32)], key: &std::path::Path, more: &str) -> Project {
    let project = Project::with_base();
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let list: Vec<String> = hosts
        .iter()
        .map(|(host, cpu, memory)| {
            format!(
                "{{ address = \"{}\", host_key = \"{}\", identity = \"{}\", cpu = {cpu}, memory_gb = {memory}, \
                 platform = \"linux/{arch}\" }}",
                host.address,
                host.host_key,
                key.display()
            )
        })
        .collect();
    project.write(
        "workflows/local.ncl",
        &format!(
            "let {{ Workflow, .. }} = import \"schemas/workflow.ncl\" in\n{{ catalog = \"../catalog\", \
             compute_provider = 'ssh, providers.ssh.hosts = [{}], {more} }} | Workflow\n",
            list.join(", ")
        ),
    );
    project
}

pub const SESSION: &str = "runners = { context_transfer = 'session, boot_timeout_s = 30 }";

#[test]
fn layers_are_built_on_a_host_and_come_back() {
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let host = Sandbox::with(&public, 4, 8);
    let project = project_on(&[(&host, 4, 8)], &key, SESSION);
    project.layer("base", BASE, "FROM base.example/busybox:1\nRUN echo proof of the place > /where\n");
    project.layer("app", "  build_base = \"base\",\n  tools_provided = [\"busybox\"],", "FROM lamina/base\nRUN true\n");
    let ran = project.lian(&["apply", "--format", "json"]).exits(0);
    assert_eq!(ran.outcomes(), ["app=built", "base=built"]);
    let leases: Vec<_> =
        ran.events().iter().filter(|event| event["type"] == "lease.granted").map(|e| e["lease"].clone()).collect();
    assert_eq!(leases.len(), 1, "one host is leased once and packed: {leases:?}");
    assert!(ran.events().iter().any(|event| event["type"] == "lease.released"));
    let again = project.lian(&["apply", "--format", "json"]).exits(0);
    assert_eq!(again.outcomes(), ["app=reused", "base=reused"]);
    // Its own daemon has the steps, and the machine's has not.
    let steps = host.run("buildctl --addr unix:///run/buildkit/buildkitd.sock du -v | grep -c 'proof of the place'");
    assert_eq!(steps.trim(), "1", "it was built elsewhere");
    assert_eq!(host.run("pgrep -c buildctl || true").trim(), "0");
}

#[test]
fn memory_that_runs_out_is_told_by_the_counters_and_tried_once_on_the_next_size() {
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let (small, large) = (Sandbox::with(&public, 2, 2), Sandbox::with(&public, 4, 16));
    let project = project_on(&[(&small, 2, 2), (&large, 4, 16)], &key, SESSION);
    project.layer(
        "hungry",
        &format!("{BASE}\n  language = \"go\","),
        &format!("FROM base.example/busybox:1\n{HUNGRY}\n"),
    );
    project.write("catalog/hungry/.build-spec.ncl", "{ cpu = 2, memory_gb = 2 }");
    let ran = project.lian(&["apply", "--format", "json"]).exits(0);
    let events = ran.events();
    let retried = events.iter().find(|event| event["type"] == "step.retried").expect("a second try");
    assert_eq!(retried["fault"]["kind"], "out_of_memory", "{retried}");
    let evidence = text(&retried["fault"]["evidence"]);
    assert!(evidence.starts_with("killed at 3") && evidence.ends_with(" of 33.6 MB"), "{evidence}");
    let end = events.iter().find(|event| event["type"] == "step.finished").expect("an end");
    assert_eq!((text(&end["outcome"]), end["attempts"].as_u64()), ("built", Some(2)), "{end}");
    let measured = &end["measured"];
    let peak = measured["memory_peak"].as_u64().unwrap_or(0);
    assert!(
        peak > 33_554_432 && measured["memory_limit"].as_u64() == Some(16 << 24),
        "what it used is not told: {end}"
    );
    let phases = end["phases"].as_object().expect("phases");
    let sum: u64 = phases.values().filter_map(serde_json::Value::as_u64).sum();
    assert!(phases["building"].as_u64() > Some(0) && sum <= end["duration_ms"].as_u64().unwrap_or(0) + 1, "{end}");
    assert!(measured["cpu_ms"].as_u64().is_some_and(|cpu| cpu > 10), "{end}");
}

#[test]
fn a_plain_kill_is_no_lack_of_memory() {
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let host = Sandbox::with(&public, 4, 8);
    let project = project_on(&[(&host, 4, 8)], &key, SESSION);
    project.layer("killed", BASE, "FROM base.example/busybox:1\nRUN sh -c 'kill -9 $$'; exit $?\n");
    project.layer("chosen", BASE, "FROM base.example/busybox:1\nRUN exit 137\n");
    let ran = project.lian(&["apply", "--format", "json"]).exits(1);
    let events = ran.events();
    for end in events.iter().filter(|event| event["type"] == "step.finished") {
        assert_eq!((text(&end["fault"]["kind"]), end["attempts"].as_u64()), ("build", Some(1)), "{end}");
    }
}

#[test]
fn a_host_with_another_key_is_sent_nothing() {
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let (host, other) = (Sandbox::with(&public, 4, 8), tempfile::tempdir().expect("a folder"));
    let (_, wrong) = key_pair(other.path());
    let wrong: Vec<&str> = wrong.split(' ').take(2).collect();
    let impostor = Impostor { host: &host, key: wrong.join(" ") };
    let project = project_on(&[(&host, 4, 8)], &key, SESSION);
    let workflow = std::fs::read_to_string(project.path().join("workflows/local.ncl")).expect("a workflow");
    project.write("workflows/local.ncl", &workflow.replace(&impostor.host.host_key, &impostor.key));
    project.layer("base", BASE, "FROM base.example/busybox:1\nRUN true\n");
    let ran = project.lian(&["apply", "--format", "json"]).exits(4);
    assert!(ran.stdout.contains("lian::remote::host_key"), "{}", ran.both());
}

struct Impostor<'a> {
    host: &'a Sandbox,
    key: String,
}

#[test]
fn a_runner_that_builds_by_itself_needs_a_registry() {
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let host = Sandbox::with(&public, 4, 8);
    let project = project_on(&[(&host, 4, 8)], &key, "");
    project.layer("base", BASE, "FROM base.example/busybox:1\nRUN true\n");
    let refused = project.lian(&["plan"]).exits(64);
    assert!(refused.stderr.contains("'session") && refused.stderr.contains("registry"), "{}", refused.both());
}

#[test]
fn a_killed_daemon_is_an_infrastructure_fault_and_tried_again() {
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let host = Sandbox::with(&public, 4, 8);
    let project = project_on(&[(&host, 4, 8)], &key, SESSION);
    project.write("catalog/once/marker", "x");
    project.layer("once", BASE, "FROM base.example/busybox:1\nRUN sleep 3\n");
    let mut child =
        project.command(&["apply", "--format", "json"]).stdout(Stdio::piped()).spawn().expect("the binary starts");
    let reading = read_until(&mut child, |line| line.contains("RUN sleep 3") && line.contains("started"));
    host.run("pkill -9 buildkitd");
    let (code, output) = reading.drain();
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("step.retried") && output.contains("lian::buildkit::daemon_gone"), "{output}");
}

#[test]
fn a_step_whose_daemon_is_gone_does_not_go_on() {
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let host = Sandbox::with(&public, 4, 8);
    let project = project_on(&[(&host, 4, 8)], &key, SESSION);
    project.layer("long", BASE, "FROM base.example/busybox:1\nRUN sleep 307; true\n");
    let mut child =
        project.command(&["apply", "--format", "json"]).stdout(Stdio::piped()).spawn().expect("the binary starts");
    let reading = read_until(&mut child, |line| line.contains("RUN sleep 307") && line.contains("started"));
    let first = host.until("pgrep -f '[s]leep 307'");
    host.run("pkill -9 buildkitd");
    // The next lease begins on a clean host.
    let (reading, _) = reading.read_on(|line| line.contains("RUN sleep 307") && line.contains("started"));
    let left: Vec<String> = host.until("pgrep -f '[s]leep 307'").lines().map(str::to_owned).collect();
    assert!(!left.is_empty() && first.lines().all(|old| !left.iter().any(|pid| pid == old)), "{first} {left:?}");
    // Neither does it when the run ends just then.
    host.run("pkill -9 buildkitd");
    assert!(std::process::Command::new("kill").arg(reading.id().to_string()).status().expect("kill").success());
    let (code, output) = reading.drain();
    assert!(code == 130 || code == 1, "{code} {output}");
    let started = std::time::Instant::now();
    while !host.run("pgrep -f '[s]leep 307'").is_empty() {
        assert!(started.elapsed().as_secs() < 20, "{}", host.run("ps ax"));
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn two_machines_never_have_a_host_at_once_and_both_end_well() {
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let host = Sandbox::with(&public, 4, 8);
    let run = |name: &str| {
        let project = project_on(&[(&host, 4, 8)], &key, SESSION);
        project.layer(name, BASE, &format!("FROM base.example/busybox:1\nRUN echo {name}; sleep 4\n"));
        // Another machine has other locks.
        let mut command = project.command(&["apply", "--format", "json"]);
        command.env("LIAN_DATA_DIR", project.data()).stdout(Stdio::piped());
        (command.spawn().expect("the binary starts"), project)
    };
    let (mut one, _first) = run("one");
    let reading = read_until(&mut one, |line| line.contains("sleep 4") && line.contains("started"));
    let (mut two, _second) = run("two");
    let waiting = read_until(&mut two, |line| line.contains("\"leasing\""));
    let (code, output) = reading.drain();
    assert_eq!(code, 0, "{output}");
    let (code, other) = waiting.drain();
    assert_eq!(code, 0, "{other}");
    assert!(!output.contains("step.retried") && !other.contains("step.retried"), "{other}");
    let at = |output: &str, kind: &str| {
        let events = output.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let mut events = events.filter(|event| event["type"] == kind);
        events.next().map(|event| event["at"].clone()).unwrap_or_else(|| panic!("no {kind} in {output}"))
    };
    let (over, begun) = (at(&output, "step.finished"), at(&other, "lease.granted"));
    assert!(over.as_u64() < begun.as_u64(), "the first was done at {over}, the second had the host at {begun}");
}

#[test]
fn a_key_that_a_fixed_host_does_not_know_is_told_at_once() {
    let keys = tempfile::tempdir().expect("a folder");
    let (_, public) = key_pair(keys.path());
    let host = Sandbox::with(&public, 4, 8);
    let others = tempfile::tempdir().expect("a folder");
    let (stranger, _) = key_pair(others.path());
    let project = project_on(&[(&host, 4, 8)], &stranger, "runners = { context_transfer = 'session }");
    project.layer("base", BASE, "FROM base.example/busybox:1\nRUN true\n");
    let started = std::time::Instant::now();
    let ran = project.lian(&["apply", "--format", "json"]).exits(4);
    assert!(ran.stdout.contains("lian::remote::login") && ran.stdout.contains("authorise the key"), "{}", ran.both());
    assert!(!ran.stdout.contains("step.retried"), "{}", ran.both());
    assert!(started.elapsed().as_secs() < 60, "the boot timeout was waited for");
}

#[test]
fn a_folder_whose_sockets_would_have_too_long_names_is_told_of() {
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let host = Sandbox::with(&public, 4, 8);
    let project = project_on(&[(&host, 4, 8)], &key, SESSION);
    project.layer("base", BASE, "FROM base.example/busybox:1\nRUN true\n");
    let long = keys.path().join("x".repeat(80));
    std::fs::create_dir(&long).expect("writable");
    let ran: Ran =
        project.command(&["apply", "--format", "json"]).env("TMPDIR", long).output().expect("it starts").into();
    let ran = ran.exits(4);
    assert!(ran.stdout.contains("lian::remote::long_path") && ran.stdout.contains("set TMPDIR"), "{}", ran.both());
}

#[test]
fn what_is_missing_here_is_told_at_once() {
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let host = Sandbox::with(&public, 4, 8);
    let project = project_on(&[(&host, 4, 8)], &key, SESSION);
    project.layer("base", BASE, "FROM base.example/busybox:1\nRUN true\n");
    let started = std::time::Instant::now();
    let mut command = project.command(&["apply", "--format", "json"]);
    let ran: Ran = command.env("PATH", "/nowhere").output().expect("it starts").into();
    let ran = ran.exits(4);
    assert!(ran.stdout.contains("lian::remote::no_ssh") && ran.stdout.contains("install OpenSSH"), "{}", ran.both());
    std::fs::remove_file(&key).expect("removable");
    let ran = project.lian(&["apply", "--format", "json"]).exits(64);
    assert!(ran.both().contains("lian::remote::identity") && !ran.stdout.contains("step.retried"), "{}", ran.both());
    assert!(started.elapsed().as_secs() < 30, "the boot timeout was waited for");
}

#[test]
fn a_host_that_hangs_is_given_up_when_its_boot_time_is_over() {
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let host = Sandbox::with(&public, 4, 8);
    // sshd lets in, and no command ever ends.
    host.run(
        "printf '#!/bin/sh\nexec sleep 3600\n' >/run/hang && chmod 755 /run/hang && mount --bind /run/hang /bin/bash",
    );
    let project = project_on(&[(&host, 4, 8)], &key, "runners = { context_transfer = 'session, boot_timeout_s = 2 }");
    project.layer("base", BASE, "FROM base.example/busybox:1\nRUN true\n");
    let ran = project.lian(&["apply", "--format", "json"]).exits(4);
    assert!(ran.stdout.contains("lian::remote::hangs"), "{}", ran.both());
}

#[test]
fn a_link_that_is_cut_is_noticed_and_tried_again() {
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let host = Sandbox::with(&public, 4, 8);
    let project = project_on(&[(&host, 4, 8)], &key, SESSION);
    project.layer("long", BASE, "FROM base.example/busybox:1\nRUN sleep 303; true\n");
    let mut child =
        project.command(&["apply", "--format", "json"]).stdout(Stdio::piped()).spawn().expect("the binary starts");
    let reading = read_until(&mut child, |line| line.contains("RUN sleep 303") && line.contains("started"));
    host.cut(true);
    let (reading, cut) = reading.read_on(|line| line.contains("step.retried"));
    assert!(cut.contains("lian::remote::link_lost"), "{cut}");
    // The host hears nobody, and ends the build by itself.
    let started = std::time::Instant::now();
    while !host.run("pgrep -f '[s]leep 303'").trim().is_empty() {
        assert!(started.elapsed().as_secs() < 90, "the build goes on for nobody");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    host.cut(false);
    let (reading, _) = reading.read_on(|line| line.contains("RUN sleep 303") && line.contains("started"));
    let stopped = std::process::Command::new("kill").arg(reading.id().to_string()).status();
    assert!(stopped.expect("kill runs").success());
    let (code, output) = reading.drain();
    assert_eq!(code, 130, "{output}");
}

#[test]
fn a_diamond_is_built_on_one_host_two_at_once() {
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let host = Sandbox::with(&public, 4, 8);
    let project = project_on(&[(&host, 4, 8)], &key, SESSION);
    project.layer("base", BASE, "FROM base.example/busybox:1\nRUN echo base > /base\n");
    project.layer("left", "  build_base = \"base\",", "FROM lamina/base\nRUN echo left > /left\n");
    project.layer("right", "  build_base = \"base\",", "FROM lamina/base\nRUN echo right > /right\n");
    project.layer(
        "top",
        "  build_base = \"left\",\n  build_inputs = [\"right\"],",
        "FROM lamina/left\nCOPY --from=lamina/right /right /right\n",
    );
    // One branch waits for the host that the other one has.
    let file = project.path().join("events.jsonl");
    let output = std::fs::File::create(&file).expect("writable");
    let mut command = project.command(&["apply", "--parallel", "2", "--format", "json"]);
    let mut child = command.stdout(output).spawn().expect("the binary starts");
    let started = std::time::Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("waited for") {
            break status;
        }
        if started.elapsed().as_secs() > 60 {
            child.kill().expect("it runs");
            panic!("nothing moves: {}", std::fs::read_to_string(&file).expect("readable"));
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    let events = std::fs::read_to_string(&file).expect("readable");
    assert!(status.success(), "{events}");
    assert!(events.lines().last().expect("events").contains("\"built\":4"), "{events}");
}
