//! Services that take the connection and never answer, end to end: the run ends within half a minute, what it leased is
//! in the ledger, and is given back once the service answers again.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cloud::Cloud;
use crate::pool::{client, on_proxmox, renting, serving};
use crate::support::lines::read_until;
use crate::support::project::{Project, Ran};
use crate::support::proxmox;
use crate::support::sandbox::Sandboxes;
use crate::support::silencer::{SILENCES, Silence, Silencer};

const BASE: &str = "  build_base = { image = \"base.example/busybox:1\" },";
const DOCKERFILE: &str = "FROM base.example/busybox:1\nRUN sleep 3\n";
/// How long a run may go on after its service fell silent.
const BOUND: Duration = Duration::from_secs(30);

/// A project whose runners come from a service that can fall silent.
struct Stand<'a> {
    project: &'a Project,
    silencer: &'a Silencer,
    command: &'a dyn Fn(&[&str]) -> Command,
    /// Has it fall silent once a runner is asked for.
    at_acquire: &'a (dyn Fn(Silence) + Sync),
}

impl Stand<'_> {
    /// A run whose service falls silent when it is asked for a runner: exit code and output.
    fn silent_at_acquire(&self, silence: Silence) -> (i32, String) {
        std::thread::scope(|scope| {
            scope.spawn(|| (self.at_acquire)(silence));
            let mut child = self.apply();
            read_until(&mut child, |line| line.contains("run.started")).drain()
        })
    }

    /// A run whose service falls silent while it builds, so that it is asked for nothing but the release.
    fn silent_at_release(&self, silence: Silence) -> (i32, String) {
        let mut child = self.apply();
        let reading = read_until(&mut child, |line| line.contains("RUN sleep 3") && line.contains("started"));
        self.silencer.set(silence);
        let (reading, _) = reading.read_on(|line| line.contains("\"step.finished\""));
        self.silencer.set(silence);
        reading.drain()
    }

    fn apply(&self) -> std::process::Child {
        let mut apply = (self.command)(&["apply", "--force", "base", "--format", "json"]);
        apply.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary starts")
    }

    /// The run says what is wrong and ends, the ledger knows its lease, and `leases gc` gives it back once it can.
    fn is_outlived(&self, silence: Silence) {
        self.project.layer("base", BASE, DOCKERFILE);
        for releases in [false, true] {
            let at = format!("{silence:?}, at {}", if releases { "release" } else { "acquire" });
            let (code, output) =
                if releases { self.silent_at_release(silence) } else { self.silent_at_acquire(silence) };
            let took = self.silencer.since();
            assert!(self.silencer.is_silent() && took < BOUND, "{at}: it took {took:?}\n{output}");
            assert!(code == 5 && output.contains("does not answer"), "{at}: exit {code}\n{output}");
            assert_eq!(output.contains("\"outcome\":\"built\""), releases, "{at}: {output}");
            let ledger = rusqlite::Connection::open(self.project.state().join("lian.db")).expect("a ledger");
            let known = ledger.query_row("select group_concat(state) from leases", [], |row| row.get::<_, String>(0));
            assert_eq!(known.as_deref(), Ok("stuck"), "{at}: {output}");
            self.silencer.set(Silence::None);
            let collected = (self.command)(&["leases", "gc", "--format", "json"]).output().expect("it starts");
            let collected = Ran::from(collected).exits(0);
            assert_eq!(collected.json()["released"].as_array().map(Vec::len), Some(1), "{at}: {}", collected.both());
        }
    }
}

/// Each way of being silent, all at once: most of it is waiting.
fn each(test: impl Fn(Silence) + Sync) {
    std::thread::scope(|scope| {
        for silence in SILENCES {
            let test = &test;
            scope.spawn(move || test(silence));
        }
    });
}

#[test]
fn a_cloud_that_falls_silent_ends_the_run_and_keeps_no_server_for_ever() {
    each(|silence| {
        let cloud = Cloud::new("context_transfer = 'session", "");
        let silencer = Silencer::before(cloud.fake.endpoint().trim_start_matches("http://").trim_end_matches("/v1"));
        let command = |arguments: &[&str]| {
            let mut command = cloud.command(arguments);
            command.env("HCLOUD_ENDPOINT", format!("http://{}/v1", silencer.address()));
            command
        };
        let at_acquire = |silence| silencer.set_at("POST /v1/servers", silence);
        let stand = Stand { project: &cloud.project, silencer: &silencer, command: &command, at_acquire: &at_acquire };
        stand.is_outlived(silence);
        cloud.is_empty();
    });
}

#[test]
fn a_pool_that_falls_silent_ends_the_run_and_keeps_no_runner_for_ever() {
    each(|silence| {
        let cloud = Cloud::new("context_transfer = 'session", "");
        let serving = serving(&cloud);
        let silencer = Silencer::before(&serving.address);
        let project = client(&silencer.address(), "");
        let command = |arguments: &[&str]| renting(&project, arguments);
        let at_acquire = |silence| silencer.set_at("POST /api/v1/vm-pool", silence);
        let stand = Stand { project: &project, silencer: &silencer, command: &command, at_acquire: &at_acquire };
        stand.is_outlived(silence);
        cloud.is_empty();
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_falls_silent_ends_the_run_and_keeps_no_machine_for_ever() {
    let runtime = tokio::runtime::Handle::current();
    let test = |silence| {
        let hosts = Arc::new(Sandboxes::default());
        let fake = runtime.block_on(proxmox::Fake::start(Arc::clone(&hosts) as _));
        let before = fake.machines().len();
        let mut settings = fake.settings();
        let silencer = Silencer::before(settings.endpoint.trim_start_matches("https://"));
        settings.endpoint = format!("https://{}", silencer.address());
        let project = on_proxmox(&settings);
        let command = |arguments: &[&str]| {
            let mut command = project.command(arguments);
            command.env("PROXMOX_TOKEN", proxmox::TOKEN);
            command
        };
        let at_acquire = |silence| {
            let deadline = Instant::now() + BOUND;
            while fake.count("POST", "/clone") == 0 {
                assert!(Instant::now() < deadline, "no machine was asked for");
                std::thread::sleep(Duration::from_millis(1));
            }
            silencer.set(silence);
        };
        let stand = Stand { project: &project, silencer: &silencer, command: &command, at_acquire: &at_acquire };
        stand.is_outlived(silence);
        assert_eq!((fake.machines().len(), hosts.alive().len()), (before, 0), "{:?}", fake.machines());
    };
    tokio::task::block_in_place(|| each(test));
}
