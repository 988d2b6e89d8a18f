//! Tests of the runner over a fake transport that answers from memory and runs other scripts in a local shell.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt as _, DuplexStream};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::RemoteRunner;
use crate::adapters::transport::{Environment, Problem, Progress, Readiness, Transport};
use crate::domain::model::{Fault, FaultKind};
use crate::domain::ports::{Counters as _, Holder};
use crate::system::exec::{Exec, Process};

const WITHIN: Duration = Duration::from_secs(30);

struct State {
    /// Checks until it is ready; `None` if a check hangs.
    looks: Option<u32>,
    /// The guard's response.
    answer: &'static str,
    /// Whether the runner is shared.
    shared: bool,
    /// Whether the transport reaches the runner.
    reached: bool,
    /// The counters of each read.
    counters: VecDeque<&'static str>,
    died_of_memory: bool,
    /// The guard's side: the receiver of the heartbeat, and the sender that ends the guard.
    guard: Option<(DuplexStream, oneshot::Sender<i32>)>,
}

struct Fake(Mutex<State>);

impl Fake {
    fn new() -> Arc<Self> {
        let state = State {
            looks: Some(0),
            answer: "taken",
            shared: true,
            reached: true,
            counters: VecDeque::new(),
            died_of_memory: false,
            guard: None,
        };
        Arc::new(Self(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("whole")
    }

    async fn prepare(self: &Arc<Self>) -> Result<RemoteRunner, Fault> {
        RemoteRunner::prepare(Arc::clone(self) as Arc<dyn Transport>, &Holder::default(), WITHIN).await
    }

    fn guard(&self) -> (DuplexStream, oneshot::Sender<i32>) {
        self.state().guard.take().expect("it is held")
    }
}

/// A process that prints this text and exits with this code.
fn ended(code: i32, stdout: &str) -> Process {
    Process {
        stdin: Box::new(tokio::io::sink()),
        stdout: Box::new(std::io::Cursor::new(stdout.to_owned().into_bytes())),
        stderr: Box::new(tokio::io::empty()),
        end: Box::pin(std::future::ready(Ok(code))),
    }
}

#[async_trait]
impl Exec for Fake {
    async fn start(&self, script: &str) -> Result<Process, Fault> {
        let mut state = self.state();
        if script.contains("memory.events") {
            let counted = state.counters.pop_front().map(|counted| ended(0, counted));
            return counted.ok_or_else(|| self.lost("nobody counts"));
        }
        if script.contains("echo taken; exec") {
            let (stdin, heard) = tokio::io::duplex(64);
            let (ends, end) = oneshot::channel();
            state.guard = Some((heard, ends));
            let end = Box::pin(async { end.await.map_err(|_| "killed".to_owned()) });
            return Ok(Process { stdin: Box::new(stdin), end, ..ended(0, &format!("{}\n", state.answer)) });
        }
        let mut command = tokio::process::Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(Process::of(command.spawn().expect("a shell")))
    }

    async fn start_with_agent(&self, script: &str) -> Result<Process, Fault> {
        self.start(script).await
    }
}

#[async_trait]
impl Transport for Fake {
    fn name(&self) -> &str {
        "the fake"
    }

    fn environment(&self) -> Environment {
        Environment {
            daemon: String::new(),
            cgroups: "/nowhere",
            pace: Duration::from_secs(7),
            shared: self.state().shared,
        }
    }

    async fn copy_in(&self, _: &Path, _: &[OsString], _: &str, _: Progress<'_>) -> Result<(), Fault> {
        Ok(())
    }

    async fn daemon_address(&self) -> Result<String, Fault> {
        Ok("tcp://fake".to_owned())
    }

    async fn look(&self) -> Result<Readiness, Fault> {
        let Some(left) = self.state().looks else { return std::future::pending().await };
        self.state().looks = Some(left.saturating_sub(1));
        Ok(if left > 0 { Readiness::NoSocket } else { Readiness::Ready })
    }

    async fn check(&self) -> Result<(), Fault> {
        if self.state().reached { Ok(()) } else { Err(self.lost("no answer")) }
    }

    fn lost(&self, evidence: &str) -> Fault {
        let mut fault = Fault::new(FaultKind::Infrastructure, "fake::lost", "lost");
        fault.evidence = Some(evidence.to_owned());
        fault
    }

    async fn explain(&self, problem: Problem) -> Fault {
        Fault::new(FaultKind::Infrastructure, "fake::problem", format!("{problem:?}"))
    }

    async fn died_of_memory(&self) -> bool {
        self.state().died_of_memory
    }
}

fn message(prepared: Result<RemoteRunner, Fault>) -> String {
    prepared.err().expect("it is not ready").message
}

#[tokio::test(start_paused = true)]
async fn a_runner_that_is_late_is_waited_for_and_one_that_never_comes_is_not() {
    let fake = Fake::new();
    fake.state().looks = Some(20);
    let started = Instant::now();
    fake.prepare().await.expect("ready at last");
    assert!(started.elapsed() > Duration::from_secs(5) && fake.state().looks == Some(0), "{:?}", started.elapsed());

    fake.state().looks = Some(u32::MAX);
    assert_eq!(message(fake.prepare().await), "NotReady(30s, NoSocket)");
    // The runner is lost meanwhile: that is reported at once.
    fake.state().reached = false;
    let started = Instant::now();
    assert_eq!(message(fake.prepare().await), "lost");
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_runner_that_hangs_is_told_soon_after_its_time() {
    let fake = Fake::new();
    fake.state().looks = None;
    let started = Instant::now();
    assert_eq!(message(fake.prepare().await), "Hangs(35s)");
    assert_eq!(started.elapsed().as_secs(), 35);
}

#[tokio::test]
async fn a_runner_that_is_not_held_says_why() {
    let fake = Fake::new();
    let codes = [
        ("busy", "lian::remote::busy"),
        ("denied", "lian::remote::denied"),
        ("no_flock", "lian::remote::no_flock"),
        ("", "fake::lost"),
    ];
    for (answer, code) in codes {
        fake.state().answer = answer;
        let fault = fake.prepare().await.err().expect("it is not held");
        assert_eq!(fault.code, code);
    }
    // The runner is not shared, so it is not held.
    fake.state().shared = false;
    fake.state().guard = None;
    fake.prepare().await.expect("ready");
    assert!(fake.state().guard.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_heart_beats_until_the_runner_is_dropped() {
    let fake = Fake::new();
    let runner = fake.prepare().await.expect("held");
    let (mut heard, _ends) = fake.guard();
    let started = Instant::now();
    let mut beats = [0; 5];
    heard.read_exact(&mut beats).await.expect("it beats");
    assert_eq!((&beats, started.elapsed().as_secs()), (b".....", 16));
    drop(runner);
    assert_eq!(heard.read(&mut beats).await.expect("its end"), 0);
}

#[tokio::test(start_paused = true)]
async fn what_fails_on_a_runner_that_is_not_ours_any_more_fails_for_that() {
    let build = || Fault::new(FaultKind::Build, "lian::buildkit::step", "it failed");
    let fake = Fake::new();
    let runner = fake.prepare().await.expect("held");
    assert_eq!(runner.judge(build()).await, build());
    // The guard ends, though the transport still reaches the runner.
    let (heard, ends) = fake.guard();
    ends.send(1).expect("awaited");
    tokio::time::sleep(Duration::from_millis(1)).await;
    let gone = runner.judge(build()).await;
    assert_eq!((gone.code.as_str(), gone.evidence.as_deref()), ("fake::lost", Some("it failed")));
    // The same if the guard no longer reads the heartbeat.
    drop(heard);
    let runner = fake.prepare().await.expect("held again");
    let (heard, _ends) = fake.guard();
    drop(heard);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(runner.judge(build()).await.code, "fake::lost");
    // Lack of memory is known from the counters, and may have ended the runner.
    let memory = Fault::new(FaultKind::OutOfMemory, "lian::buildkit::out_of_memory", "too little");
    assert_eq!(runner.judge(memory.clone()).await, memory);
}

#[tokio::test]
async fn the_counters_of_a_runner_are_read_and_its_own_death_counts() {
    let fake = Fake::new();
    let runner = fake.prepare().await.expect("held");
    fake.state().counters = ["0 0 10 5000000 1 0 10 5 0 0", "2 1 20 5000000 1 2 15 9 0 0", "nonsense"].into();
    let first = runner.usage().await.expect("counted");
    assert_eq!((first.oom_kills, first.memory_now, first.cpu_us), (0, 10, 5));
    assert_eq!(runner.usage().await.expect("counted").oom_kills, 2);
    assert_eq!(runner.usage().await.expect_err("not understood").message, "NoCounters");
    assert_eq!(runner.usage().await.expect_err("nobody counts").code, "fake::lost");
    fake.state().died_of_memory = true;
    let last = runner.usage().await.expect("the last look");
    assert_eq!((last.oom_kills, last.memory_peak, last.cpu_us), (3, 5_000_000, 9));
    assert_eq!(runner.pace(), Duration::from_secs(7));
}

#[tokio::test]
async fn files_are_private_and_folders_are_cleaned() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let mode = |path: &str| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    let runner = Fake::new().prepare().await.expect("held");
    let large = vec![b'x'; 200_000];
    let files = [
        (at("secrets/o'brien"), b"line\nof \x00 bytes".to_vec()),
        (at("empty"), Vec::new()),
        (at("docker/large"), large),
    ];
    runner.put(&files).await.expect("written");
    for (path, bytes) in &files {
        assert_eq!((&std::fs::read(path).expect("it is there"), mode(path)), (bytes, 0o600), "{path}");
    }
    assert_eq!((mode(&at("secrets")), mode(&at("docker"))), (0o700, 0o700));
    runner.remove(&[at("secrets"), at("empty"), at("never there")]).await.expect("removed");
    runner.empty(&at("docker")).await.expect("emptied");
    runner.make(&at("docker")).await.expect("it is there");
    let left: Vec<_> = walkdir::WalkDir::new(folder.path()).min_depth(1).into_iter().filter_map(Result::ok).collect();
    assert_eq!(left.iter().map(|entry| entry.path().display().to_string()).collect::<Vec<_>>(), [at("docker")]);
    let refused = runner.put(&[("/proc/no/file".to_owned(), Vec::new())]).await.expect_err("no room there");
    assert_eq!(
        (refused.code.as_str(), refused.message.as_str()),
        ("lian::remote::transfer", "the fake refuses a file")
    );
    assert!(refused.evidence.is_some_and(|evidence| evidence.contains("/proc/no")));
}
