//! Hosts that are not well: what is told of them, and that others are taken instead.

use std::process::Stdio;
use std::time::{Duration, Instant};

use lian_build::adapters::transport::ssh::SshConnection;
use lian_build::adapters::transport::{Problem, Readiness, Transport as _};
use lian_build::domain::ports::SshTarget;

use crate::runners::{SESSION, project_on};
use crate::support::lines::read_until;
use crate::support::project::{Project, text};
use crate::support::registry::Registry;
use crate::support::sandbox::{Sandbox, key_pair, meeting_place, registry_ports};

const BASE: &str = "  build_base = { image = \"base.example/busybox:1\" },";

/// Kills the daemon and keeps it from being started again. Its socket stays.
const STALE: &str =
    "touch /run/lian/no-restart; pkill -9 buildkitd; while pgrep buildkitd; do :; done; ls /run/buildkit";

async fn connected(host: &Sandbox, key: &std::path::Path) -> SshConnection {
    let (address, user, host_key) = (host.address.to_string(), "root".to_owned(), host.host_key.clone());
    let target = SshTarget { address, port: 22, user, host_key, identity: Some(key.to_owned()), is_configured: false };
    let minute = Duration::from_secs(60);
    SshConnection::connect(&target, "host", minute, minute).await.unwrap_or_else(|fault| panic!("{fault:?}"))
}

/// The code and the words of what a host lacks.
async fn told(connection: &SshConnection) -> String {
    match connection.look().await.expect("it can be asked") {
        Readiness::Ready => "ready".to_owned(),
        missing => {
            let fault = connection.explain(Problem::NotReady(Duration::from_secs(3), missing)).await;
            format!("{} {} {:?} {:?}", fault.code, fault.message, fault.evidence, fault.help)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_says_which_of_no_socket_no_answer_and_not_ready_it_is() {
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let host = Sandbox::with(&public, 4, 8);
    let connection = connected(&host, &key).await;
    assert_eq!(told(&connection).await, "ready");
    // A host whose owner names the cgroup of its builds has the folder, and no file that a first boot would write.
    assert!(host.run("rm /run/lian/ready; ls /run/lian").contains("cgroup"));
    assert_eq!(told(&connection).await, "ready");
    host.run(": >/run/lian/booting");
    assert!(told(&connection).await.contains("lian::remote::not_ready"), "{}", told(&connection).await);
    host.run("rm /run/lian/booting");
    // A daemon that hangs takes connections: the kernel does.
    host.run("pkill -STOP buildkitd");
    let started = Instant::now();
    let hangs = told(&connection).await;
    assert!(hangs.contains("lian::remote::no_answer") && hangs.contains("said nothing for 6 s"), "{hangs}");
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    host.run("pkill -CONT buildkitd");
    assert_eq!(told(&connection).await, "ready");
    assert!(host.run(STALE).contains("buildkitd.sock"), "its socket is gone");
    let stale = told(&connection).await;
    assert!(stale.contains("lian::remote::no_answer") && stale.contains("restart buildkit"), "{stale}");
    host.run("rm /run/buildkit/buildkitd.sock");
    let none = told(&connection).await;
    assert!(none.contains("lian::remote::no_socket") && none.contains("no socket /run/buildkit"), "{none}");
}

/// A host that is chosen first, one that is larger, and a project that builds on them.
pub struct Two {
    _keys: tempfile::TempDir,
    _registry: Registry,
    pub first: Sandbox,
    pub second: Sandbox,
    pub project: Project,
}

/// Two hosts, of which the first may be ill, with a project of one layer of this step. `rsync` says how contexts go.
pub fn two(step: &str, rsync: bool) -> Two {
    let registry = Registry::everywhere();
    let address = format!("{}:{}", meeting_place(), registry.port());
    registry_ports().lock().expect("whole").insert(address.clone());
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let (first, second) = (Sandbox::with(&public, 2, 4), Sandbox::with(&public, 4, 8));
    let more = if rsync {
        format!(
            "runners.boot_timeout_s = 60, registry_provider = 'registry, \
             registry = {{ address = \"{address}/team\", plain_http = true }}"
        )
    } else {
        SESSION.to_owned()
    };
    let project = project_on(&[(&first, 2, 4), (&second, 4, 8)], &key, &more);
    project.layer("one", BASE, &format!("FROM base.example/busybox:1\n{step}\n"));
    Two { _keys: keys, _registry: registry, first, second, project }
}

#[test]
fn a_sick_host_is_passed_over_and_the_healthy_one_builds() {
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let (sick, healthy) = (Sandbox::with(&public, 2, 4), Sandbox::with(&public, 4, 8));
    let project = project_on(&[(&sick, 2, 4), (&healthy, 4, 8)], &key, SESSION);
    type Illness = (fn(&Sandbox), &'static str);
    let illnesses: [Illness; 3] = [
        // sshd answers, and the daemon is dead behind its socket; then there is no socket; then nobody answers at all.
        (|host| drop(host.run(STALE)), "no daemon answers"),
        (|host| drop(host.run("rm -f /run/buildkit/buildkitd.sock")), "no socket"),
        (|host| host.cut(true), "cannot be reached"),
    ];
    for (at, (illness, told)) in illnesses.into_iter().enumerate() {
        illness(&sick);
        project.layer("one", BASE, &format!("FROM base.example/busybox:1\nRUN echo {at}\n"));
        let ran = project.lian(&["apply", "--format", "json"]).exits(0);
        let events = ran.events();
        let granted = events.iter().find(|event| event["type"] == "lease.granted").expect("a lease");
        assert_eq!(text(&granted["runner_type"]), healthy.address.to_string(), "{}", ran.both());
        assert!(events.iter().all(|event| event["type"] != "step.retried"), "{}", ran.both());
        assert!(ran.stderr.contains("passed over") && ran.stderr.contains(told), "{told}: {}", ran.both());
    }
}

#[test]
fn a_dead_daemon_behind_its_socket_is_no_fault_of_the_layer() {
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let host = Sandbox::with(&public, 2, 4);
    let project = project_on(&[(&host, 2, 4)], &key, SESSION);
    project.layer("one", BASE, "FROM base.example/busybox:1\nRUN true\n");
    host.run(STALE);
    let started = Instant::now();
    let ran = project.lian(&["apply", "--format", "json"]).exits(4);
    assert!(ran.stdout.contains("lian::remote::no_answer"), "{}", ran.both());
    assert!(started.elapsed().as_secs() < 60, "it was waited for: {:?}", started.elapsed());
}

#[test]
fn a_daemon_that_dies_and_comes_back_is_waited_for_and_used_again() {
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let host = Sandbox::with(&public, 2, 4);
    let project = project_on(&[(&host, 2, 4)], &key, SESSION);
    project.layer("one", BASE, "FROM base.example/busybox:1\nRUN sleep 3\n");
    let mut command = project.command(&["apply", "--format", "json"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary starts");
    let reading = read_until(&mut child, |line| line.contains("RUN sleep 3") && line.contains("started"));
    host.run(STALE);
    let (reading, retried) = reading.read_on(|line| line.contains("step.retried"));
    assert!(retried.contains("lian::buildkit::daemon_gone"), "{retried}");
    // It stays away for longer than a try takes; what shows it is that the next try waits for it.
    let (reading, _) = reading.read_on(|line| line.contains("\"leasing\""));
    let daemon = "setsid buildkitd --config /run/files/buildkitd.toml >>/run/buildkitd.log 2>&1 </dev/null &";
    host.run(&format!("sleep 4; {daemon}"));
    let (code, output) = reading.drain();
    assert_eq!(code, 0, "{output}");
    assert_eq!(output.matches("step.retried").count(), 1, "it was tried while it was away: {output}");
}

/// Builds on the first host until it dies so, and expects the second one to build within half a minute of that.
fn dies_and_goes_on(rsync: bool, death: impl Fn(&Sandbox), code: &str) {
    let two = two("COPY . /all\nRUN sleep 4", rsync);
    let mut command = two.project.command(&["apply", "--format", "json"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary starts");
    let reading = read_until(&mut child, |line| line.contains("RUN sleep 4") && line.contains("started"));
    death(&two.first);
    let began = Instant::now();
    let (reading, retried) = reading.read_on(|line| line.contains("step.retried"));
    let noticed = began.elapsed();
    let (exit, output) = reading.drain();
    two.first.cut(false);
    assert!(retried.contains(code), "{retried}");
    assert!(noticed.as_secs() <= 30, "noticed after {noticed:?}");
    assert_eq!(exit, 0, "{output}");
    assert!(output.contains(&format!("\"runner_type\":\"{}\"", two.second.address)), "{output}");
}

#[test]
fn a_daemon_that_hangs_is_noticed_within_half_a_minute_and_another_host_goes_on() {
    dies_and_goes_on(false, |host| drop(host.run("pkill -STOP buildkitd")), "lian::remote::no_answer");
}

#[test]
fn a_daemon_that_hangs_under_a_build_that_runs_there_is_noticed_as_soon() {
    dies_and_goes_on(true, |host| drop(host.run("pkill -STOP buildkitd")), "lian::remote::no_answer");
}

#[test]
fn a_link_that_is_open_on_one_side_only_is_noticed_within_half_a_minute() {
    dies_and_goes_on(true, |host| host.cut(true), "lian::remote::link_lost");
}

#[test]
fn settings_that_can_never_work_fail_in_seconds() {
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let host = Sandbox::with(&public, 2, 4);
    // Nothing about how long a machine may boot: a fixed host does not.
    let project = project_on(&[(&host, 2, 4)], &key, "runners.context_transfer = 'session");
    project.layer("one", BASE, "FROM base.example/busybox:1\nRUN true\n");
    let workflow = std::fs::read_to_string(project.path().join("workflows/local.ncl")).expect("a workflow");
    let address = format!("address = \"{}\"", host.address);
    for (wrong, told) in [
        ("address = \"no-such-host.invalid\"".to_owned(), "make the name known"),
        (format!("{address}, port = 2223"), "check whether sshd runs there"),
    ] {
        project.write("workflows/local.ncl", &workflow.replace(&address, &wrong));
        let started = Instant::now();
        let ran = project.lian(&["apply", "--format", "json"]).exits(4);
        assert!(ran.stdout.contains("lian::remote::unreachable") && ran.stdout.contains(told), "{}", ran.both());
        assert!(!ran.stdout.contains("step.retried"), "{}", ran.both());
        assert!(started.elapsed().as_secs() < 40, "{:?}", started.elapsed());
    }
    // A key that is not there is seen before anything is asked of a host.
    project.write("workflows/local.ncl", &workflow);
    std::fs::remove_file(&key).expect("removable");
    let ran = project.lian(&["plan"]).exits(64);
    assert!(ran.stderr.contains("lian::remote::identity") && ran.stderr.contains("cannot be read"), "{}", ran.both());
    let ran = project.lian(&["check", "--format", "json"]).exits(0);
    assert!(ran.stdout.contains("lian::remote::identity"), "{}", ran.both());
    project.lian(&["check", "--strict"]).exits(1);
}

#[test]
fn an_address_that_comes_back_with_another_key_is_passed_over() {
    let two = two("RUN sleep 4", false);
    let mut command = two.project.command(&["apply", "--format", "json"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary starts");
    let reading = read_until(&mut child, |line| line.contains("RUN sleep 4") && line.contains("started"));
    // Another machine has the address: its sshd shows another key, and all old connections are gone.
    two.first.run(
        "ssh-keygen -q -t ed25519 -N '' -C '' -f /run/other_key; mount --bind /run/other_key /run/files/host_key; \
         pkill -HUP -o sshd; pkill -9 -f 'sshd: root'",
    );
    let (code, output) = reading.drain();
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("step.retried") && output.contains("lian::remote::link_lost"), "{output}");
    assert!(output.contains(&format!("\"runner_type\":\"{}\"", two.second.address)), "{output}");
}

/// Bytes that no compression makes smaller.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(bytes).collect()
}

#[test]
fn a_full_disk_is_told_on_the_side_that_it_is_on() {
    let end = |two: &Two| {
        let ran = two.project.lian(&["apply", "--format", "json"]).exits(4);
        let end = ran.events().into_iter().find(|event| event["type"] == "step.finished").expect("an end");
        (text(&end["fault"]["code"]).to_owned(), end["fault"].to_string())
    };
    let mount = |arguments: &[&str], folder: &std::path::Path| {
        let mounted = std::process::Command::new("mount").args(arguments).arg(folder).status();
        assert!(mounted.expect("mount runs").success(), "{arguments:?}");
    };
    // The result comes back to this machine, where there is no space for it.
    let here = two("COPY big /big", false);
    std::fs::write(here.project.path().join("catalog/one/big"), noise(12_000_000)).expect("writable");
    let images = here.project.state().join("images");
    std::fs::create_dir_all(&images).expect("writable");
    mount(&["-t", "tmpfs", "-o", "size=6m", "tmpfs"], &images);
    let (code, told) = end(&here);
    assert!(std::process::Command::new("umount").arg("-l").arg(&images).status().expect("umount runs").success());
    assert_eq!(code, "lian::buildkit::disk_full");
    assert!(told.contains("on this machine") && told.contains("not the runner's"), "{told}");
    // The daemon's own disk is full, then the runner's place for contexts.
    let small = "mount -o remount,size=$(($(df -k --output=used $d | tail -1) + 2000))k $d";
    let there = two("COPY big /big", false);
    std::fs::write(there.project.path().join("catalog/one/big"), noise(12_000_000)).expect("writable");
    for host in [&there.first, &there.second] {
        host.run(&format!("d=/run; {small}"));
    }
    let (code, told) = end(&there);
    assert_eq!(code, "lian::buildkit::disk_full");
    assert!(told.contains("on the runner") && !told.contains("this machine"), "{told}");
    let copied = two("COPY big /big", true);
    std::fs::write(copied.project.path().join("catalog/one/big"), noise(12_000_000)).expect("writable");
    for host in [&copied.first, &copied.second] {
        host.run(&format!("d=/workspace; {small}"));
    }
    let (code, told) = end(&copied);
    assert_eq!(code, "lian::remote::disk_full");
    assert!(told.contains("No space left on device"), "the cause is not quoted: {told}");
}
