//! Exit codes where runners are rented, and that nothing comes before giving back what dead runs left.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::cloud::Cloud;
use crate::support::hetzner::{FaultPlan, Kind};
use crate::support::lines::{Reading, read_until};
use crate::support::project::{Project, Ran, text};

const BASE: &str = "  build_base = { image = \"base.example/busybox:1\" },";
const SESSION: &str = "context_transfer = 'session";

fn kill(pid: u32, signal: &str) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().expect("kill").success());
}

/// A project with one layer that builds for a while.
fn long() -> Cloud {
    let cloud = Cloud::new(SESSION, "");
    cloud.project.layer("long", BASE, "FROM base.example/busybox:1\nRUN sleep 64; true\n");
    cloud
}

/// Runs `then` while a run of this cloud holds a lease, whose id it gets.
fn while_leased<T>(cloud: &Cloud, then: impl FnOnce(Reading<'_>, &str) -> T) -> T {
    let mut child = cloud.command(&["apply", "--format", "json"]).stdout(Stdio::piped()).spawn().expect("it starts");
    let reading = read_until(&mut child, |line| line.contains("run.started"));
    let (reading, line) = reading.read_on(|line| line.contains("lease.granted"));
    let granted: serde_json::Value = serde_json::from_str(&line).expect("an event");
    then(reading, text(&granted["lease"]))
}

/// A run that leased a server and died.
fn killed() -> Cloud {
    let cloud = long();
    while_leased(&cloud, |reading, _| {
        kill(reading.id(), "-KILL");
        reading.drain();
    });
    assert_eq!(cloud.fake.servers().len(), 1);
    cloud
}

#[test]
fn a_cloud_that_is_sold_out_is_not_the_layers_fault() {
    let cloud = Cloud::new(SESSION, "");
    cloud.project.layer("base", BASE, "FROM base.example/busybox:1\nRUN true\n");
    for server_type in ["cax11", "cax31", "cpx11", "cpx31"] {
        for location in ["fsn1", "nbg1", "hel1"] {
            let (server_type, location) = (server_type.to_owned(), location.to_owned());
            cloud.fake.fail_next(FaultPlan::new("*", Kind::SoldOut { server_type, location }));
        }
    }
    let ran = cloud.lian(&["apply", "--format", "json"]).exits(4);
    let end = ran.events().into_iter().find(|event| event["type"] == "step.finished").expect("an end");
    assert_eq!((text(&end["outcome"]), text(&end["fault"]["kind"])), ("failed", "infrastructure"), "{end}");
    let retried = ran.events().iter().filter(|event| event["type"] == "step.retried").count();
    assert_eq!(retried, 2, "{}", ran.both());
    cloud.is_empty();

    // A layer that fails by its own fault beside it is told by the code that says so.
    let mixed = Cloud::new(SESSION, "");
    mixed.project.layer("base", BASE, "FROM base.example/busybox:1\nRUN false\n");
    mixed.lian(&["apply"]).exits(1);
    mixed.is_empty();
}

#[test]
fn settings_of_a_provider_that_can_never_work_are_wrong_usage() {
    let told = |fields: &str, code: &str| {
        let project = Project::new();
        project.write(
            "workflows/local.ncl",
            &format!(
                "let {{ Workflow, .. }} = import \"schemas/workflow.ncl\" in\n{{ catalog = \"../catalog\", {fields} }} | Workflow\n"
            ),
        );
        let mut command = project.command(&["leases"]);
        command.env("HCLOUD_TOKEN", crate::support::hetzner::TOKEN).env("LIAN_DATA_DIR", project.data());
        let ran = Ran::from(command.output().expect("it starts")).exits(64);
        assert!(ran.stderr.contains(code) && ran.stderr.contains("help:"), "{}", ran.both());
    };
    told("compute_provider = 'hcloud, providers.hcloud.server_types = []", "lian::hcloud::no_type");
    let pool = "compute_provider = 'vm_pool, providers.vm_pool = { endpoint = \"https://[x]\", workspace = \"w\" }";
    told(pool, "lian::vm_pool::endpoint");
}

#[test]
fn what_a_dead_run_left_goes_back_before_anything_else_can_fail() {
    let cloud = killed();
    cloud.project.write("catalog/long/Dockerfile", "FRM base.example/busybox:1\n");
    let ran = cloud.lian(&["apply"]).exits(1);
    assert!(ran.stderr.contains("of a run that died was given back"), "{}", ran.both());
    assert!(ran.stderr.contains("Dockerfile"), "{}", ran.both());
    cloud.is_empty();
    let after = cloud.lian(&["runs"]).exits(0);
    assert!(!after.stderr.contains("dead runs"), "the ledger does not know: {}", after.both());
}

#[test]
fn a_lease_that_nobody_can_give_back_any_more_is_struck_off_by_name() {
    let cloud = killed();
    for _ in 0..40 {
        cloud.fake.fail_next(FaultPlan::new("DELETE /servers/{id}", Kind::Status(403, "forbidden")));
    }
    cloud.lian(&["leases", "gc"]).exits(5);
    let lease = cloud.fake.servers()[0].labels["lian-lease"].clone();
    let typo = cloud.lian(&["leases", "gc", "--forget", &lease, "--forget", "nobodys"]).exits(64);
    assert!(typo.stderr.contains("lian::leases::unknown"), "{}", typo.both());
    assert!(cloud.lian(&["runs"]).stderr.contains("1 runner of dead runs"), "one was struck off all the same");
    let told = cloud.lian(&["leases", "gc", "--forget", &lease]).exits(0);
    assert!(told.stderr.contains("yours to delete"), "{}", told.both());
    assert!(!cloud.lian(&["runs"]).stderr.contains("dead runs"));
    assert_eq!(cloud.fake.servers().len(), 1, "nothing was asked of the provider");
}

#[test]
fn a_stuck_lease_outranks_whatever_else_goes_wrong_and_every_command_that_rents_tries_again() {
    let cloud = killed();
    cloud.project.write("catalog/long/Dockerfile", "FRM base.example/busybox:1\n");
    for _ in 0..40 {
        cloud.fake.fail_next(FaultPlan::new("DELETE /servers/{id}", Kind::Status(403, "forbidden")));
    }
    let told = |ran: &Ran| assert!(ran.stderr.contains("lian::leases::stuck"), "{}", ran.both());
    let unsound = cloud.lian(&["apply"]).exits(5);
    told(&unsound);
    assert!(unsound.stderr.contains("Dockerfile"), "{}", unsound.both());
    // Without a token nobody can be asked, neither for it back nor for another.
    let tokenless = cloud.command(&["apply", "--format", "json"]).env_remove("HCLOUD_TOKEN").output();
    let tokenless = Ran::from(tokenless.expect("it starts")).exits(5);
    told(&tokenless);
    assert!(tokenless.stdout.contains("run.finished"), "{}", tokenless.both());
    let project = cloud.project.path().display().to_string();
    told(&cloud.lian(&["dispatch", "--context", &project, "--image", "acme/none"]).exits(5));
    // A workflow that cannot be read hides whose leases they are, not that there are some.
    let blind = cloud.lian(&["apply", "--workflow", "absent.ncl"]);
    assert!(blind.code != 0 && blind.stderr.contains("1 runner of dead runs"), "{}", blind.both());
    assert_eq!(cloud.fake.servers().len(), 1);

    cloud.fake.forgive();
    let data = cloud.project.path().join("pool").display().to_string();
    let mut serve = cloud.command(&["serve", "--data", &data]);
    let mut serve = serve.stderr(Stdio::piped()).spawn().expect("it starts");
    let mut said = Vec::new();
    for line in BufReader::new(serve.stderr.take().expect("piped")).lines() {
        said.push(line.expect("readable"));
        if said.last().is_some_and(|line| line.contains("listening on")) {
            break;
        }
    }
    kill(serve.id(), "-TERM");
    serve.wait().expect("it ends");
    assert!(said.iter().any(|line| line.contains("of a run that died was given back")), "{said:?}");
    cloud.is_empty();
}

#[test]
fn a_lease_that_is_named_is_given_back_or_it_is_said_why_not() {
    let cloud = long();
    while_leased(&cloud, |reading, lease| {
        let held = cloud.lian(&["leases", "gc", "--lease", lease]).exits(64);
        assert!(held.stderr.contains("lian::leases::held") && held.stderr.contains("help:"), "{}", held.both());
        let typo = format!("{lease}9");
        let unknown = cloud.lian(&["leases", "gc", "--lease", &typo]).exits(64);
        assert!(unknown.stderr.contains(&format!("did you mean `{lease}`?")), "{}", unknown.both());
        assert_eq!(cloud.fake.servers().len(), 1, "a living run's server went");
        kill(reading.id(), "-TERM");
        assert_eq!(reading.drain().0, 130);
    });
    let nothing = cloud.lian(&["leases", "gc", "--lease", "nobodys", "--format", "json"]).exits(64);
    assert!(nothing.stdout.contains("lian::leases::unknown"), "{}", nothing.both());
    cloud.lian(&["leases", "gc"]).exits(0);
    cloud.is_empty();

    // Of a project that says nothing of a provider.
    let other = Project::new();
    let labels =
        [("lian", "1"), ("lian-owner", "o"), ("lian-run", "r"), ("lian-lease", "r-7"), ("lian-expires", "1000")];
    cloud.fake.add_server("lian-o-r-7", &labels);
    let at = |arguments: &[&str]| {
        let mut command = other.command(arguments);
        command.env("HCLOUD_TOKEN", crate::support::hetzner::TOKEN).env("HCLOUD_ENDPOINT", cloud.fake.endpoint());
        Ran::from(command.output().expect("it starts"))
    };
    assert_eq!(at(&["leases", "--format", "json"]).exits(0).json()["leases"], serde_json::json!([]));
    let listed = at(&["leases", "--provider", "hcloud", "--format", "json"]).exits(0).json();
    assert_eq!(listed["leases"][0]["lease"], "r-7", "{listed}");
    let collected = at(&["leases", "gc", "--provider", "hcloud", "--format", "json"]).exits(0).json();
    assert_eq!(collected["released"], serde_json::json!(["r-7"]));
}

#[test]
fn a_server_that_comes_late_is_looked_for_once_more_and_told_where_it_stays() {
    let cloud = long();
    // The call that makes it is never answered: the ledger only knows that it was asked for.
    cloud.fake.fail_next(FaultPlan::new("POST /servers", Kind::Hang));
    let mut first = cloud.command(&["apply"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let started = std::time::Instant::now();
    while cloud.fake.servers().is_empty() {
        assert!(started.elapsed().as_secs() < 30, "no server was asked for");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    kill(first.id(), "-KILL");
    first.wait().expect("it ends");
    let late = cloud.fake.servers().remove(0);

    let log = cloud.project.path().join("stderr");
    let mut second = cloud.command(&["apply", "--provider", "local", "--format", "json"]);
    second.stdout(Stdio::piped()).stderr(std::fs::File::create(&log).expect("a file"));
    let mut second = second.spawn().expect("it starts");
    let reading = read_until(&mut second, |line| line.contains("RUN sleep 64") && line.contains("started"));
    assert!(cloud.fake.servers().is_empty(), "it was not given back first");
    let labels: Vec<(&str, &str)> = late.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    cloud.fake.add_server(&late.name, &labels);
    for _ in 0..40 {
        cloud.fake.fail_next(FaultPlan::new("DELETE /servers/{id}", Kind::Status(403, "forbidden")));
    }
    kill(reading.id(), "-TERM");
    let (code, output) = reading.drain();
    let told = std::fs::read_to_string(&log).expect("a log");
    assert_eq!(code, 5, "{output}\n{told}");
    assert!(told.contains("lian::leases::stuck") && told.contains(&late.labels["lian-lease"]), "{told}");
    cloud.fake.forgive();
    cloud.lian(&["leases", "gc"]).exits(0);
    cloud.is_empty();
}

#[test]
fn the_third_time_a_run_is_left_at_once_and_says_which_runners_stay() {
    let cloud = long();
    while_leased(&cloud, |reading, lease| {
        let lease = lease.to_owned();
        let (reading, _) = reading.read_on(|line| line.contains("RUN sleep 64") && line.contains("started"));
        for _ in 0..40 {
            cloud.fake.fail_next(FaultPlan::new("*", Kind::Hang));
        }
        kill(reading.id(), "-INT");
        let (reading, _) = reading.read_on(|line| line.contains("step.finished") && line.contains("cancelled"));
        kill(reading.id(), "-INT");
        let (reading, _) = reading.read_on(|line| line.contains("run.stopping") && line.contains("\"hard\":true"));
        kill(reading.id(), "-INT");
        let left = std::time::Instant::now();
        let (code, output) = reading.drain();
        assert!(left.elapsed().as_secs() < 20, "it was not left at once");
        assert_eq!(code, 5, "{output}");
        let stuck = output.lines().find(|line| line.contains("lease.stuck")).expect("a lease that stays");
        assert!(stuck.contains(&lease), "{output}");
        assert!(output.lines().last().is_some_and(|line| line.contains("run.finished")), "{output}");
        cloud.fake.forgive();
        let waits = cloud.lian(&["runs"]).exits(0);
        assert!(waits.stderr.contains("dead runs"), "the ledger does not know: {}", waits.both());
    });
    cloud.lian(&["leases", "gc"]).exits(0);
    cloud.is_empty();
}

#[test]
fn a_layer_that_another_run_builds_is_waited_for_without_a_server() {
    let cloud = Cloud::new(SESSION, "");
    cloud.project.layer("slow", BASE, "FROM base.example/busybox:1\nRUN sleep 4; true\n");
    while_leased(&cloud, |first, _| {
        let second = cloud.command(&["apply", "--format", "json"]).stdout(Stdio::piped()).spawn();
        let mut second = second.expect("it starts");
        let waiting = read_until(&mut second, |line| line.contains("\"contended\""));
        assert_eq!(cloud.fake.servers().len(), 1, "a server was rented to wait");
        assert_eq!(first.drain().0, 0);
        let (code, output) = waiting.drain();
        assert!(code == 0 && output.contains("\"outcome\":\"reused\""), "{code} {output}");
    });
    assert_eq!(cloud.fake.bills().len(), 1, "{:?}", cloud.fake.bills());
    cloud.is_empty();
}
