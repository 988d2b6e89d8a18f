//! What `leases` tells of those who hold and wait, and what `leases gc` takes from whom.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::cloud::Cloud;
use crate::runners::{SESSION as ON_HOSTS, project_on};
use crate::support::hetzner::{FaultPlan, Kind, TOKEN};
use crate::support::lines::read_until;
use crate::support::project::{LIAN, Project, Ran, text};
use crate::support::sandbox::{Sandbox, key_pair};

const BASE: &str = "  build_base = { image = \"base.example/busybox:1\" },";

fn terminate(pid: u32) {
    assert!(Command::new("kill").arg(pid.to_string()).status().expect("kill").success());
}

/// A command in another project of the same user on the same cloud.
fn neighbour(cloud: &Cloud, project: &Project, arguments: &[&str]) -> Command {
    let mut command = project.command(arguments);
    command.args(["--provider", "hcloud"]).env("HCLOUD_TOKEN", TOKEN).env("HCLOUD_ENDPOINT", cloud.fake.endpoint());
    command.env("LIAN_DATA_DIR", cloud.project.data());
    command
}

#[test]
fn a_lease_that_a_living_run_elsewhere_may_use_goes_by_force_and_is_not_called_a_dead_runs() {
    let cloud = Cloud::new("context_transfer = 'session", "");
    cloud.project.layer("long", BASE, "FROM base.example/busybox:1\nRUN sleep 66; true\n");
    let mut child =
        cloud.command(&["apply", "--format", "json"]).stdout(Stdio::piped()).spawn().expect("the binary starts");
    let reading = read_until(&mut child, |line| line.contains("RUN sleep 66") && line.contains("started"));
    let listed = cloud.lian(&["leases", "--format", "json"]).exits(0).json();
    let lease = text(&listed["leases"][0]["lease"]).to_owned();
    let other = Project::new();
    let gc = |more: &[&str]| -> Ran {
        let arguments = [&["leases", "gc", "--lease", &lease], more].concat();
        neighbour(&cloud, &other, &arguments).output().expect("it starts").into()
    };

    let refused = gc(&[]).exits(64);
    assert!(
        refused.stderr.contains("lian::leases::foreign") && refused.stderr.contains("--force"),
        "{}",
        refused.both()
    );
    assert!(refused.stderr.contains("is not expired"), "{}", refused.both());
    assert_eq!(cloud.fake.servers().len(), 1, "a living run's server went");
    // Its own run, in its own project, is known to live: no force takes it.
    let held = cloud.lian(&["leases", "gc", "--lease", &lease, "--force"]).exits(64);
    assert!(held.stderr.contains("lian::leases::held"), "{}", held.both());
    // On a terminal it is asked.
    let mut asked = Command::new("script");
    let line = format!("'{LIAN}' leases gc --provider hcloud --force --lease '{lease}'");
    asked.args(["-qec", &line, "/dev/null"]).current_dir(other.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    asked.env("HCLOUD_TOKEN", TOKEN).env("HCLOUD_ENDPOINT", cloud.fake.endpoint()).env("NO_COLOR", "1");
    let mut asked = asked.env("LIAN_DATA_DIR", cloud.project.data()).spawn().expect("script runs");
    std::io::Write::write_all(&mut asked.stdin.take().expect("piped"), b"n\n").expect("it reads");
    let told = Ran::from(asked.wait_with_output().expect("it ends")).exits(130);
    assert!(told.stdout.contains("take it away? [y/N]") && told.stdout.contains("stays as it is"), "{}", told.both());
    assert_eq!(cloud.fake.servers().len(), 1, "it went though the answer was no");

    let forced = gc(&["--force"]).exits(0);
    assert!(forced.stderr.contains("was taken away") && !forced.stderr.contains("died"), "{}", forced.both());
    assert_eq!(forced.stdout, "1 runner given back\n");
    assert!(cloud.fake.servers().iter().all(|server| server.labels["lian-lease"] != lease), "it is still there");
    terminate(reading.id());
    reading.drain();
}

#[test]
fn what_is_asked_for_is_queued_and_what_is_granted_is_held() {
    let cloud = Cloud::new("context_transfer = 'session", "");
    cloud.project.layer("long", BASE, "FROM base.example/busybox:1\nRUN sleep 67; true\n");
    // The call that makes it is not answered for as long as this looks.
    cloud.fake.fail_next(FaultPlan::new("POST /servers", Kind::Hang));
    let mut child = cloud.command(&["apply"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let started = std::time::Instant::now();
    while cloud.fake.times("POST /servers").is_empty() {
        assert!(started.elapsed().as_secs() < 30, "no server was asked for");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let listed = cloud.lian(&["leases", "--format", "json"]).exits(0).json();
    assert_eq!(text(&listed["leases"][0]["state"]), "queued", "{listed}");
    terminate(child.id());
    child.wait().expect("it ends");
}

#[test]
fn who_holds_a_fixed_host_is_listed() {
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let host = Sandbox::with(&public, 4, 8);
    let project = project_on(&[(&host, 4, 8)], &key, ON_HOSTS);
    project.layer("long", BASE, "FROM base.example/busybox:1\nRUN sleep 68; true\n");
    let data = project.path().join("data");
    let lian = |arguments: &[&str]| {
        let mut command = project.command(arguments);
        command.env("LIAN_DATA_DIR", &data).env("USER", "grace");
        command
    };
    let list =
        || -> Value { Ran::from(lian(&["leases", "--format", "json"]).output().expect("it starts")).exits(0).json() };
    assert_eq!(list()["leases"], serde_json::json!([]));
    let mut child = lian(&["apply", "--format", "json"]).stdout(Stdio::piped()).spawn().expect("it starts");
    let reading = read_until(&mut child, |line| line.contains("lease.granted"));
    let (reading, line) = reading.read_on(|line| line.contains("RUN sleep 68") && line.contains("started"));
    let run = text(&serde_json::from_str::<Value>(&line).expect("an event")["run"]).to_owned();
    let listed = list();
    let row = &listed["leases"][0];
    assert_eq!((text(&row["state"]), text(&row["run"])), ("held", run.as_str()), "{listed}");
    let what = text(&row["what"]);
    assert!(what.contains(&host.address.to_string()) && what.contains("grace@") && what.contains("long"), "{what}");
    terminate(reading.id());
    reading.drain();
    assert_eq!(list()["leases"], serde_json::json!([]), "a host that is free is held by nobody");
}

/// The binary as somebody on another machine runs it: another name, home and data folder.
fn on_machine(machine: &str, user: &str, project: &Project, arguments: &[&str]) -> Command {
    let plain = project.command(arguments);
    let mut command = Command::new("unshare");
    command.args(["--uts", "sh", "-c", &format!("hostname {machine} && exec \"$@\""), "sh"]);
    command.arg(plain.get_program()).args(plain.get_args()).current_dir(project.path()).stdin(Stdio::null());
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let home = project.path().join("home");
    command.env("USER", user).env("HOME", &home).env("LIAN_DATA_DIR", home.join("data"));
    command
}

#[test]
fn who_holds_a_fixed_host_from_another_machine_is_listed_and_waited_for_by_name() {
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let host = Sandbox::with(&public, 4, 8);
    let (hers, ours) = (project_on(&[(&host, 4, 8)], &key, ON_HOSTS), project_on(&[(&host, 4, 8)], &key, ON_HOSTS));
    hers.layer("long", BASE, "FROM base.example/busybox:1\nRUN sleep 69; true\n");
    ours.layer("short", BASE, "FROM base.example/busybox:1\nRUN true\n");
    let list = || {
        let output = on_machine("tower", "bob", &ours, &["leases", "--format", "json"]).output().expect("it starts");
        Ran::from(output).exits(0).json()
    };
    assert_eq!(list()["leases"], serde_json::json!([]));
    // What an earlier holder left is not believed while nobody holds the lock.
    let note = r#"{"owner":"old@gone","run":"1","workspace":"w","lease":"1-1"}"#;
    host.run(&format!("printf '5\\n%s\\n' '{note}' >/run/lian-build.lock"));
    assert_eq!(list()["leases"], serde_json::json!([]), "a lock that is free names a holder");

    let mut holding = on_machine("laptop", "ana", &hers, &["apply", "--format", "json"]);
    let mut holding = holding.stdout(Stdio::piped()).spawn().expect("it starts");
    let reading = read_until(&mut holding, |line| line.contains("RUN sleep 69") && line.contains("started"));
    let listed = list();
    let row = &listed["leases"][0];
    let (run, what) = (text(&row["run"]).to_owned(), text(&row["what"]));
    assert_eq!(text(&row["state"]), "held", "{listed}");
    let workspace = hers.path().file_name().expect("a name").to_string_lossy();
    for part in [&host.address.to_string(), "ana@laptop", &*workspace] {
        assert!(what.contains(part), "{part}: {listed}");
    }
    assert!(text(&row["lease"]).starts_with(&run) && row["since"].is_u64(), "{listed}");

    let mut waiting = on_machine("tower", "bob", &ours, &["apply", "--format", "json"]);
    let mut waiting = waiting.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(waiting.stderr.take().expect("piped")));
    let told = lines.find_map(|line| line.ok().filter(|line| line.contains("waiting for"))).expect("it is told");
    let expected = format!("waiting for {}, held by ana@laptop (run {run}, workspace {workspace}) for ", host.address);
    assert!(told.contains(&expected), "{told}");
    terminate(reading.id());
    reading.drain();
    // Its turn comes, and its end leaves nobody.
    assert!(lines.all(|line| line.is_ok()) && waiting.wait().expect("it ends").success());
    assert_eq!(list()["leases"], serde_json::json!([]), "a host that is free is held by nobody");
}

#[test]
fn a_holders_name_is_foreign_text_and_a_host_that_cannot_be_asked_is_told() {
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let host = Sandbox::with(&public, 4, 8);
    let project = project_on(&[(&host, 4, 8)], &key, ON_HOSTS);
    let evil = r#"{\"owner\":\"\\u001b[2J\\u009bmeve\",\"run\":\"r\\u0007un\",\"lease\":\"\\u001b]0;x\\u0007\"}"#;
    let hold = format!("exec 9>>/run/lian-build.lock; flock 9; printf '7\\n%s' \"{evil}\" >/run/lian-build.lock; ");
    host.run(&format!(
        "({hold} exec sleep 300) >/dev/null 2>&1 </dev/null & until [ -s /run/lian-build.lock ]; do :; done"
    ));
    let ran = project.lian(&["leases"]).exits(0);
    assert!(ran.stdout.contains("eve") && ran.stdout.contains("host "), "{}", ran.both());
    assert!(!ran.stdout.chars().any(|c| c.is_control() && c != '\n'), "{:?}", ran.stdout);
    // Nobody knows who holds a host that does not answer: that is no host which nobody holds.
    host.cut(true);
    let ran = project.lian(&["leases", "--format", "json"]).exits(4);
    assert!(ran.both().contains("lian::remote::unreachable"), "{}", ran.both());
}
