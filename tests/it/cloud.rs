//! The whole life on a fake Hetzner Cloud with real machines behind it: leased, built on, out of memory, lost, killed, and
//! nothing left.

mod known;
mod lost;
mod recovery;
mod stepped;

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::support::hetzner::{Fake, FaultPlan, Kind, TOKEN};
use crate::support::lines::read_until;
use crate::support::project::{Project, text};
use crate::support::registry::Registry;
use crate::support::sandbox::{Sandboxes, meeting_place, registry_ports};

const BASE: &str = "  build_base = { image = \"base.example/busybox:1\" },";
/// Types of this machine's own architecture: 2 GB, then 8.
pub const TYPES: &str = if cfg!(target_arch = "aarch64") { "\"cax11\", \"cax31\"" } else { "\"cpx11\", \"cpx31\"" };

/// A cloud whose servers are real hosts, and a project that builds on them.
pub struct Cloud {
    pub fake: Fake,
    pub hosts: Arc<Sandboxes>,
    pub project: Project,
    /// By how many hours the clock of its user's machine is ahead.
    ahead: AtomicI64,
}

impl Cloud {
    /// With this beside `context_transfer` in the workflow's `runners`, and beside these in the workflow.
    pub fn new(runners: &str, more: &str) -> Self {
        let hosts = Arc::new(Sandboxes::default());
        let fake = Fake::start(Arc::clone(&hosts) as _);
        let cloud = Self { fake, hosts, project: Project::with_base(), ahead: AtomicI64::new(0) };
        cloud.workflow(&format!("boot_timeout_s = 60, {runners}"), "", more);
        cloud
    }

    /// Writes the workflow: with this in its `runners`, in its `providers.hcloud`, and beside these.
    pub fn workflow(&self, runners: &str, hcloud: &str, more: &str) {
        self.project.write(
            "workflows/local.ncl",
            &format!(
                "let {{ Workflow, .. }} = import \"schemas/workflow.ncl\" in\n{{ catalog = \"../catalog\", \
                 compute_provider = 'hcloud, providers.hcloud = {{ prepared = true, image = \"debian-13\", \
                 server_types = [{TYPES}], {hcloud} }}, runners = {{ {runners} }}, {more} }} | Workflow\n"
            ),
        );
    }

    /// The binary with these arguments, in the project, as a user of this cloud.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.project.command(arguments);
        command.env("HCLOUD_TOKEN", TOKEN).env("HCLOUD_ENDPOINT", self.fake.endpoint());
        let ahead = self.ahead.load(Ordering::Relaxed);
        if ahead != 0 {
            command.envs(crate::support::clock::off(ahead));
        }
        command
    }

    /// From now on the clock of its user's machine is so many hours ahead; behind where that is negative.
    pub fn clock_ahead(&self, hours: i64) {
        self.ahead.store(hours, Ordering::Relaxed);
    }

    pub fn lian(&self, arguments: &[&str]) -> crate::support::project::Ran {
        self.command(arguments).output().expect("the binary starts").into()
    }

    /// Asserts that nothing is left at the provider.
    #[track_caller]
    pub fn is_empty(&self) {
        let left = self.fake.everything_gone();
        assert!(left.is_empty(), "left at the provider: {left:?}");
        let keys = std::fs::read_dir(self.project.state().join("keys")).map_or(0, |keys| keys.flatten().count());
        assert_eq!(keys, 0, "keys of leases are left");
    }
}

/// A registry that hosts to come reach, and what a workflow says of it.
pub fn registry() -> (Registry, String) {
    let (registry, address) = reachable_registry();
    (registry, in_registry(&address))
}

/// What a workflow says of a registry in which it has this place.
pub fn in_registry(address: &str) -> String {
    format!("registry_provider = 'registry, registry = {{ address = \"{address}\", plain_http = true }}")
}

/// A registry that hosts to come reach, and where.
pub fn reachable_registry() -> (Registry, String) {
    let registry = Registry::everywhere();
    let address = format!("{}:{}", meeting_place(), registry.port());
    registry_ports().lock().expect("whole").insert(address.clone());
    (registry, address)
}

const SESSION: &str = "context_transfer = 'session";

#[test]
fn five_layers_on_two_runners_with_a_registry_between_them() {
    let (_registry, in_it) = registry();
    let more = format!("parallel = 2, {in_it}");
    let cloud = Cloud::new("max_leases = 2", &more);
    cloud.project.layer("base", BASE, "FROM base.example/busybox:1\nRUN echo base > /base\n");
    // Left is at it for longer than a server boots: else right takes over its runner and the second one is called off.
    for (name, seconds) in [("left", 6), ("right", 1)] {
        let dockerfile = format!("FROM lamina/base\nCOPY . /src\nRUN echo {name} > /{name}; sleep {seconds}\n");
        cloud.project.layer(name, "  build_base = \"base\",", &dockerfile);
    }
    cloud.project.layer(
        "both",
        "  build_base = \"left\",\n  build_inputs = [\"right\"],",
        "FROM lamina/left\nCOPY --from=lamina/right /right /right\n",
    );
    let fields = "  build_base = \"both\",\n  tools_provided = [\"cat\"],\n  artifact_paths = [\"/right\"],";
    cloud.project.layer("top", fields, "FROM lamina/both\nRUN cat /base /left /right\n");
    let plan = cloud.lian(&["plan", "--format", "json"]).exits(0).json();
    assert_eq!((plan["forecast"]["leases"].as_u64(), text(&plan["forecast"]["currency"])), (Some(2), "EUR"), "{plan}");
    let ran = cloud.lian(&["apply", "--format", "json"]).exits(0);
    assert_eq!(ran.outcomes(), ["base=built", "both=built", "left=built", "right=built", "top=built"]);
    let events = ran.events();
    let granted = events.iter().filter(|event| event["type"] == "lease.granted").count();
    assert_eq!(granted, 2, "{}", ran.both());
    let cost = events.iter().find(|event| event["type"] == "run.cost").expect("a cost");
    assert_eq!((cost["leases"].as_u64(), cost["started_hours"].as_u64()), (Some(2), Some(2)), "{cost}");
    assert!(cost["micros"].as_u64().expect("a number") > 10_000, "{cost}");
    assert!(!ran.both().contains(TOKEN), "the token was told");
    cloud.is_empty();
    assert_eq!(cloud.lian(&["apply", "--format", "json"]).exits(0).outcomes().len(), 5);
    assert_eq!(cloud.fake.bills().len(), 2, "a run that reuses everything rented something");
}

#[test]
fn what_dies_of_memory_lives_on_the_next_type_and_dies_there_only_once() {
    let cloud = Cloud::new(SESSION, "");
    cloud.project.write("catalog/hungry/.build-spec.ncl", "{ cpu = 2, memory_gb = 2 }");
    let hungry = |bytes: u64| {
        let run = format!("RUN x=$(head -c {bytes} /dev/zero | tr '\\0' a); echo ${{#x}}");
        cloud.project.layer("hungry", BASE, &format!("FROM base.example/busybox:1\n{run}\n"));
    };
    hungry(30_000_000);
    let ran = cloud.lian(&["apply", "--format", "json"]).exits(0);
    let events = ran.events();
    let retried = events.iter().find(|event| event["type"] == "step.retried").expect("a second try");
    assert_eq!(retried["fault"]["kind"], "out_of_memory", "{retried}");
    assert!(text(&retried["fault"]["evidence"]).starts_with("killed at 3"), "{retried}");
    cloud.is_empty();

    hungry(500_000_000);
    let ran = cloud.lian(&["apply"]).exits(1);
    let shown = ran.both();
    assert!(shown.contains("killed at") && shown.contains("of 134.2 MB"), "both tries are shown: {shown}");
    assert!(shown.contains("runner_type") && shown.contains(".build-spec.ncl"), "{shown}");
    cloud.is_empty();
}

#[test]
fn faults_of_the_cloud_are_lived_through_and_its_last_word_is_told() {
    let cloud = Cloud::new(SESSION, "");
    cloud.project.layer("base", BASE, "FROM base.example/busybox:1\nRUN true\n");
    cloud.fake.fail_next(FaultPlan::new("POST /servers", Kind::LostAnswer));
    cloud.fake.fail_next(FaultPlan::new("DELETE /servers/{id}", Kind::Status(500, "server_error")));
    cloud.fake.fail_next(FaultPlan::new("GET /server_types", Kind::Limited(1)));
    cloud.lian(&["apply", "--format", "json"]).exits(0);
    assert_eq!(cloud.fake.bills().len(), 1, "{:?}", cloud.fake.bills());
    cloud.is_empty();
    cloud.fake.fail_next(FaultPlan::new("POST /servers", Kind::Status(403, "token_readonly")));
    let ran = cloud.lian(&["apply", "--force", "base"]).exits(4);
    assert!(ran.both().contains("token") && ran.both().contains("help:"), "{}", ran.both());
    cloud.is_empty();
}

#[test]
fn a_killed_run_is_cleared_away_by_the_next_one_and_a_living_neighbour_is_not() {
    let cloud = Cloud::new(SESSION, "");
    cloud.project.layer("long", BASE, "FROM base.example/busybox:1\nRUN sleep 62; true\n");
    let start = || cloud.command(&["apply", "--format", "json"]).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut first = start();
    let reading = read_until(&mut first, |line| line.contains("RUN sleep 62") && line.contains("started"));
    let kill = |pid: u32, signal: &str| {
        assert!(Command::new("kill").args([signal, &pid.to_string()]).status().expect("kill").success());
    };
    kill(reading.id(), "-KILL");
    reading.drain();
    assert_eq!(cloud.fake.servers().len(), 1);
    let remark = cloud.lian(&["check"]).exits(0);
    assert!(remark.stderr.contains("1 runner") && remark.stderr.contains("lian-build leases gc"), "{}", remark.both());

    // Its neighbour, in another project of the same user and the same cloud.
    let listed = cloud.lian(&["leases", "--format", "json"]).exits(0);
    assert!(
        listed.stderr.contains("given back") || listed.json()["leases"] == serde_json::json!([]),
        "{}",
        listed.both()
    );
    cloud.is_empty();

    let mut living = start();
    let reading = read_until(&mut living, |line| line.contains("RUN sleep 62") && line.contains("started"));
    let collected = cloud.lian(&["leases", "gc", "--format", "json"]).exits(0).json();
    assert_eq!(collected["released"], serde_json::json!([]), "a living run's lease was taken");
    assert_eq!(cloud.fake.servers().len(), 1);
    let held = cloud.lian(&["leases"]).exits(0);
    assert!(held.stdout.contains("held"), "{}", held.both());
    kill(reading.id(), "-TERM");
    let (code, output) = reading.drain();
    assert_eq!(code, 130, "{output}");
    cloud.is_empty();
}

#[test]
fn a_lease_that_cannot_be_given_back_is_shown_loudly_and_tried_by_every_later_command() {
    let cloud = Cloud::new(SESSION, "");
    cloud.project.layer("base", BASE, "FROM base.example/busybox:1\nRUN true\n");
    for _ in 0..40 {
        cloud.fake.fail_next(FaultPlan::new("DELETE /servers/{id}", Kind::Status(403, "forbidden")));
    }
    let ran = cloud.lian(&["apply"]).exits(5);
    assert!(ran.both().contains("could not be given back"), "{}", ran.both());
    assert_eq!(cloud.fake.servers().len(), 1);
    let listed = cloud.lian(&["leases"]).exits(5);
    assert!(listed.stdout.contains("stuck") && listed.stderr.contains("lian::leases::stuck"), "{}", listed.both());
    cloud.fake.forgive();
    cloud.lian(&["leases", "gc"]).exits(0);
    cloud.is_empty();
}

#[test]
fn strangers_leases_go_when_they_expire_and_not_before() {
    // Whatever this machine's clock shows: it is right, seven hours behind the API's, seven hours ahead of it.
    for off in [0, 7 * 3600, -7 * 3600] {
        strangers_leases(off);
    }
}

fn strangers_leases(off: i64) {
    let cloud = Cloud::new(SESSION, "");
    cloud.fake.clock_ahead(off);
    cloud.project.layer("base", BASE, "FROM base.example/busybox:1\nRUN true\n");
    fn labels<'a>(lease: &'a str, expires: &'a str) -> [(&'a str, &'a str); 5] {
        [("lian", "1"), ("lian-owner", "somebody"), ("lian-run", "r"), ("lian-lease", lease), ("lian-expires", expires)]
    }
    let at = |hours: i64| (cloud.fake.seconds() + hours * 3600).to_string();
    cloud.fake.add_server("lian-somebody-r-1", &labels("r-1", &at(-1)));
    cloud.fake.add_server("lian-somebody-r-2", &labels("r-2", &at(1)));
    cloud.fake.add_server("precious", &[("name", "database")]);
    let listed = cloud.lian(&["leases", "--format", "json"]).exits(0).json();
    assert_eq!(listed["leases"].as_array().expect("leases").len(), 2, "{listed}");
    let collected = cloud.lian(&["leases", "gc", "--format", "json"]).exits(0).json();
    assert_eq!(collected["released"], serde_json::json!(["r-1"]));
    let names: Vec<String> = cloud.fake.servers().into_iter().map(|server| server.name).collect();
    assert_eq!(names, ["lian-somebody-r-2", "precious"]);
    let told = cloud.lian(&["leases", "gc"]).exits(0);
    assert!(told.stdout.starts_with("nothing to give back; 1 lease of other projects"), "{}", told.both());
    let refused = cloud.lian(&["leases", "gc", "--lease", "r-2"]).exits(64);
    assert!(refused.stderr.contains("lian::leases::foreign") && refused.stderr.contains("run r"), "{}", refused.both());
    assert!(
        refused.stderr.contains("(it is in 59m ") || refused.stderr.contains("(it is in 1h 00m"),
        "{}",
        refused.both()
    );
    let refused = cloud.lian(&["leases", "gc", "--lease", "r-2", "--force"]).exits(5);
    assert!(refused.stderr.contains("`somebody`'s"), "{}", refused.both());
    assert_eq!(cloud.fake.servers().len(), 2);
}
