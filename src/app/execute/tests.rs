//! Tests the dispatcher against fakes: providers that never answer, builds that never end, panics. Not responsible
//! for: real tools.

mod floods;
mod order;
mod stops;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::*;
use crate::app::sinks::{LITTLE_PATIENCE, LeftBehind, Sinks};
use crate::domain::base::{Digest, LayerName, LeaseId, Platforms, RunId, Timestamp};
use crate::domain::life::{Effect, Input, Limits, Run, StepSpec, StopLevel};
use crate::domain::model::{
    BuildEvent, Event, EventBody, Fault, FaultClass, ImageRecord, KeyParts, LayerKey, Offer, Outcome, RunOutcome,
};
use crate::domain::ports::*;
use crate::system::stop::gently;

/// The failure to simulate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    /// No runner is ever granted, and a stop is requested while the run waits.
    NoAnswer,
    /// A build never ends.
    Endless,
    /// A build panics.
    Panic,
    /// Builds write endless output without a newline.
    Flood,
    /// Another run builds the keys for a while.
    Claimed,
    /// The claim on the key of `left` is answered late, or another run holds it until `right` is built.
    Behind {
        held: bool,
    },
    /// A stop is requested while a build goes on that ends for no request; a second one follows if `twice`.
    Deaf {
        twice: bool,
    },
    /// Three stops are requested while a build goes on, and a release never ends.
    Left,
}

/// One fake for all ports of a run; it records the calls.
#[derive(Debug)]
struct Fake {
    trouble: Trouble,
    notes: Mutex<Vec<String>>,
    lines: Mutex<Vec<(Timestamp, JournalKind, String)>>,
    staging: tempfile::TempDir,
    stops: Mutex<Option<mpsc::Sender<StopLevel>>>,
    tries: Mutex<usize>,
}

impl Fake {
    fn new(trouble: Trouble) -> Arc<Self> {
        let staging = tempfile::tempdir().expect("a folder");
        let (notes, lines, stops) = (Mutex::default(), Mutex::default(), Mutex::default());
        Arc::new(Self { trouble, notes, lines, staging, stops, tries: Mutex::default() })
    }

    fn note(&self, what: String) {
        self.notes.lock().expect("whole").push(what);
    }

    fn noted(&self) -> Vec<String> {
        self.notes.lock().expect("whole").clone()
    }
}

/// The fake, shared, for what the services own.
#[derive(Clone, Debug)]
struct Shared(Arc<Fake>);

impl Shared {
    fn stop(&self, level: StopLevel) {
        let stops = self.0.stops.lock().expect("whole").clone();
        stops.expect("a run").try_send(level).expect("the run listens");
    }
}

#[async_trait]
impl ComputeProvider for Shared {
    async fn offers(&self) -> Result<Vec<Offer>, Fault> {
        Ok(Vec::new())
    }

    async fn acquire(&self, request: &AcquireRequest, record: &LeaseRecord) -> Result<Lease, Fault> {
        self.0.note(format!("acquire {} {}", request.lease, request.platform));
        record.learn(Resource::new("machine", 1)).await;
        if self.0.trouble == Trouble::NoAnswer {
            self.stop(StopLevel::Cancel);
            std::future::pending::<()>().await;
        }
        Ok(fakes::granted(request))
    }

    async fn release(&self, lease: &LeaseId, record: &LeaseRecord) -> Result<Gone, Fault> {
        let known: Vec<String> = record.known().iter().map(ToString::to_string).collect();
        self.0.note(format!("release {lease}: {}", known.join(", ")));
        if self.0.trouble == Trouble::Left {
            self.stop(StopLevel::Kill);
            self.stop(StopLevel::Leave);
            std::future::pending::<()>().await;
        }
        Ok(Gone::Deleted)
    }

    async fn owned(&self) -> OwnedLeases {
        OwnedLeases::default()
    }
}

#[async_trait]
impl Builder for Shared {
    async fn build(&self, request: &BuildRequest, sink: &BuildSink<'_>) -> Result<Built, Fault> {
        match self.0.trouble {
            Trouble::Flood => {
                let text = "x".repeat(1024);
                for _ in 0..FLOOD {
                    sink(BuildEvent::Log { vertex: "v".into(), text: text.clone() });
                }
            }
            Trouble::Endless => std::future::pending().await,
            Trouble::Left => {
                self.stop(StopLevel::Cancel);
                std::future::pending().await
            }
            Trouble::Deaf { twice } => {
                self.stop(StopLevel::Cancel);
                let asked = || {
                    self.0.note("asked to end".to_owned());
                    if twice {
                        self.stop(StopLevel::Kill);
                    }
                };
                gently(std::future::pending(), asked).await
            }
            Trouble::Panic => panic!("a bug of ours"),
            _ => {}
        }
        Ok(Built { digest: Digest::of("image"), steps: 1, cached: 0, platforms: request.platforms.clone() })
    }

    async fn verify(&self, _request: &VerifyRequest) -> Result<Option<Digest>, Fault> {
        Ok(None)
    }
}

impl StagingFolder for Shared {
    fn path(&self) -> &Path {
        self.0.staging.path()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.note("unclaimed".to_owned());
    }
}

/// A claim that tells when it ends.
#[derive(Debug)]
struct Held(Shared);

impl Claim for Held {}

#[async_trait]
impl ImageStore for Shared {
    async fn find(&self, _name: &str, _tag: &str) -> Result<Option<Found>, ImageStoreError> {
        Ok(None)
    }

    async fn record(&self, _name: &str, _tag: &str) -> Result<Option<ImageRecord>, ImageStoreError> {
        Ok(None)
    }

    async fn point(&self, _name: &str, _tag: &str, _key: &LayerKey) -> Result<bool, ImageStoreError> {
        Ok(false)
    }

    async fn claim(&self, key: &LayerKey) -> Result<Option<Box<dyn Claim>>, ImageStoreError> {
        match self.0.trouble {
            Trouble::Behind { held: false } if *key == job("left").key => {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Trouble::Behind { held: true }
                if *key == job("left").key && !self.0.noted().contains(&"promote test/right".to_owned()) =>
            {
                return Ok(None);
            }
            _ => {}
        }
        let mut tries = self.0.tries.lock().expect("whole");
        *tries += 1;
        if self.0.trouble == Trouble::Claimed && *tries <= TAKEN {
            return Ok(None);
        }
        self.0.note("claimed".to_owned());
        Ok(Some(Box::new(Held(self.clone()))))
    }

    async fn staging(&self) -> Result<Box<dyn StagingFolder>, ImageStoreError> {
        Ok(Box::new(self.clone()))
    }

    fn source(&self, name: &str, digest: &Digest) -> ImageSource {
        ImageSource::Registry { name: name.to_owned(), digest: digest.clone() }
    }

    async fn promote(&self, staged: &Staged) -> Result<(), ImageStoreError> {
        self.0.note(format!("promote {}", staged.name));
        Ok(())
    }
}

impl Journal for Shared {
    fn append(&self, at: Timestamp, kind: JournalKind, json: &str) -> Result<(), JournalError> {
        self.0.lines.lock().expect("whole").push((at, kind, json.to_owned()));
        Ok(())
    }

    fn lease(&self, _: Timestamp, _: &LeaseId, _: LeaseMark, _: Option<&str>) -> Result<(), JournalError> {
        Ok(())
    }

    fn learned(&self, _: Timestamp, _: &LeaseId, resource: &Resource) -> Result<(), JournalError> {
        self.0.note(format!("learned {resource}"));
        Ok(())
    }

    fn record(&self, _build: &BuildRecord) -> Result<(), JournalError> {
        Ok(())
    }
}

/// How often a key is found to be claimed.
const TAKEN: usize = 100_000;

/// Log events of a flooding build: more than any queue takes.
const FLOOD: usize = 30_000;

/// The events that a sink received, without texts.
#[derive(Default)]
struct Seen {
    ends: BTreeMap<LayerName, (Outcome, Option<Fault>)>,
    bodies: Vec<EventBody>,
    progress: usize,
    dropped: u64,
}

/// Records its events.
struct Watching(Arc<Mutex<Seen>>);

impl Sink for Watching {
    fn name(&self) -> &'static str {
        "watching"
    }

    fn event(&mut self, event: &Event) {
        let mut seen = self.0.lock().expect("whole");
        match &event.body {
            EventBody::StepProgress { .. } => seen.progress += 1,
            EventBody::EventsDropped { count } => seen.dropped += count,
            EventBody::StepFinished(end) => {
                seen.ends.insert(end.layer.clone(), (end.outcome, end.fault.clone()));
            }
            _ => {}
        }
        if !matches!(&event.body, EventBody::StepProgress { .. }) {
            seen.bodies.push(event.body.clone());
        }
    }

    fn close(&mut self, _: Duration) {}
}

/// Hangs or panics at its first event.
struct Bad {
    hangs: bool,
}

impl Sink for Bad {
    fn name(&self) -> &'static str {
        if self.hangs { "hanging" } else { "panicking" }
    }

    fn event(&mut self, _: &Event) {
        assert!(self.hangs, "a bug of this sink");
        loop {
            std::thread::park();
        }
    }

    fn close(&mut self, _: Duration) {}
}

fn job(layer: &str) -> Job {
    let platforms = Platforms::from("linux/amd64,linux/arm64");
    test_kit::job(KeyParts { platforms, ..samples::key_parts(layer, "FROM scratch") })
}

fn spec(layer: &str, parents: &[&str]) -> StepSpec {
    test_kit::step_spec(layer.into(), parents.iter().map(|parent| (*parent).into()).collect(), "linux/arm64".into())
}

/// Runs two layers, one on the other, with this fake.
async fn carried(fake: &Arc<Fake>) -> (Run, Seen) {
    let (run, seen, left) = carried_before(fake, Vec::new()).await;
    assert_eq!(left, []);
    (run, seen)
}

/// As [`carried`], with additional sinks; also returns the sinks that were abandoned.
async fn carried_before(fake: &Arc<Fake>, sinks: Vec<Box<dyn Sink>>) -> (Run, Seen, Vec<LeftBehind>) {
    carried_steps(fake, vec![spec("base", &[]), spec("app", &["base"])], sinks).await
}

/// As [`carried_before`], with these steps.
async fn carried_steps(
    fake: &Arc<Fake>,
    steps: Vec<StepSpec>,
    mut sinks: Vec<Box<dyn Sink>>,
) -> (Run, Seen, Vec<LeftBehind>) {
    let shared = Shared(Arc::clone(fake));
    let jobs = steps.iter().map(|step| (step.layer.clone(), job(step.layer.as_str()))).collect();
    let run = Run::new(RunId::from("r"), steps, limits());
    let simple = test_kit::services(Arc::new(shared.clone()), Arc::new(shared.clone()));
    let services = RunServices { provider: Arc::new(shared.clone()), journal: Arc::new(shared), ..simple };
    let (sender, stops) = mpsc::channel(3);
    *fake.stops.lock().expect("whole") = Some(sender);
    let seen = Arc::new(Mutex::new(Seen::default()));
    sinks.push(Box::new(Watching(Arc::clone(&seen))));
    let sinks = Sinks::start(sinks);
    let work = Work { id: RunId::from("r"), run, jobs, digests: BTreeMap::new() };
    let executed = execute(work, services, sinks.emitter(), stops);
    // The clock is paused: it advances only while every task waits.
    let finished = tokio::time::timeout(Duration::from_secs(24 * 3600), executed).await.expect("the run ends");
    let left = sinks.close(LITTLE_PATIENCE);
    let seen = std::mem::take(&mut *seen.lock().expect("whole"));
    (finished.run, seen, left)
}

/// Replays the run from the journal, with all events it emits.
fn replayed(fake: &Fake) -> (Run, Vec<EventBody>) {
    let lines = fake.lines.lock().expect("whole").clone();
    let (_, first, begun) = &lines[0];
    assert_eq!(*first, JournalKind::Start);
    let (mut again, mut emitted): (Run, _) = (serde_json::from_str(begun).expect("a run"), Vec::new());
    for (at, _, json) in lines.iter().filter(|(_, kind, _)| *kind == JournalKind::Input) {
        for effect in again.on(*at, serde_json::from_str::<Input>(json).expect("an input")) {
            if let Effect::Emit(body) = effect {
                emitted.push(*body);
            }
        }
    }
    (again, emitted)
}

fn limits() -> Limits {
    Limits { packed: true, claims: true, ..Limits::default() }
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_no_provider() {
    let fake = Fake::new(Trouble::NoAnswer);
    let (run, _) = carried(&fake).await;
    assert_eq!(run.outcome(), RunOutcome::Cancelled);
    assert_eq!(
        fake.noted(),
        ["claimed", "acquire r-1 linux/arm64", "learned machine 1", "unclaimed", "release r-1: machine 1"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_build_over_its_time_budget_is_ended_and_its_runner_given_back() {
    let fake = Fake::new(Trouble::Endless);
    let started = tokio::time::Instant::now();
    let (run, watching) = carried(&fake).await;
    assert_eq!(started.elapsed().as_secs(), 30 * 60);
    assert_eq!(run.outcome(), RunOutcome::Failure);
    let (_, fault) = &watching.ends[&LayerName::from("base")];
    assert_eq!(fault.as_ref().map(|fault| fault.code.as_str()), Some("lian::life::over_budget"));
    assert_eq!(
        fake.noted(),
        ["claimed", "acquire r-1 linux/arm64", "learned machine 1", "unclaimed", "release r-1: machine 1"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_bug_gives_runners_back_and_is_told_as_one() {
    let fake = Fake::new(Trouble::Panic);
    let (run, watching) = carried(&fake).await;
    assert_eq!(run.faults().collect::<Vec<_>>(), [FaultClass::Bug]);
    let (_, fault) = &watching.ends[&LayerName::from("base")];
    assert_eq!(fault.as_ref().map(|fault| fault.code.as_str()), Some("lian::drive::bug"));
    assert_eq!(
        fake.noted(),
        ["claimed", "acquire r-1 linux/arm64", "learned machine 1", "unclaimed", "release r-1: machine 1"]
    );
}

#[tokio::test(start_paused = true)]
async fn one_runner_takes_one_layer_after_the_other_and_the_journal_replays_the_run() {
    let fake = Fake::new(Trouble::None);
    let (run, _) = carried(&fake).await;
    assert_eq!(run.outcome(), RunOutcome::Success);
    let built = |layer: &str| [format!("promote test/{layer}"), "unclaimed".to_owned()];
    let mut noted = vec!["claimed".to_owned(), "acquire r-1 linux/arm64".to_owned(), "learned machine 1".to_owned()];
    noted.extend(built("base"));
    noted.push("claimed".to_owned());
    noted.extend(built("app"));
    noted.push("release r-1: machine 1".to_owned());
    assert_eq!(fake.noted(), noted);
    assert_eq!(replayed(&fake).0, run);
}
