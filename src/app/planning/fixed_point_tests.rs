//! Property: right after a successful run a plan has nothing to build, and every image stands on its parents' current
//! images, whatever was removed, changed or built by others before. Uses the real planning and the real executor on
//! images in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use proptest::prelude::*;
use tokio::sync::mpsc;

use super::{candidate, jobs_to_build, stored};
use crate::app::execute::{Job, ParentImage, Work, execute, test_kit};
use crate::app::sinks::{PATIENCE, Sinks};
use crate::domain::base::{Digest, LayerName, RunId};
use crate::domain::life::{Limits, Run, StepSpec};
use crate::domain::model::*;
use crate::domain::plan;
use crate::domain::ports::*;

/// Something that happens to the images or the sources between two runs.
#[derive(Debug, Clone)]
enum Happens {
    /// A tag `key-…` is removed.
    KeyTagGone(usize),
    /// The record beside an image is removed.
    RecordGone(usize),
    /// A layer's `latest` is removed.
    LatestGone(usize),
    /// A layer's source gets this version.
    Edit(usize, u8),
    /// Somebody else forced this layer alone: its key has another image.
    BuiltAgain(usize),
}

/// One run: of a target with its ancestors or of all layers, with forced layers.
#[derive(Debug, Clone)]
struct Applied {
    before: Vec<Happens>,
    target: Option<usize>,
    forced: BTreeSet<usize>,
    /// Whether a build of the same inputs gives the same image as the last time.
    reproducible: bool,
}

#[derive(Debug, Clone)]
struct Image {
    digest: Digest,
    key: LayerKey,
    record: Option<ImageRecord>,
}

#[derive(Debug, Default)]
struct State {
    images: BTreeMap<(String, String), Image>,
    built: u32,
    reproducible: bool,
}

/// The builder and the images of a run, in memory.
#[derive(Debug, Clone, Default)]
struct World(Arc<Mutex<State>>);

impl World {
    fn image(&self, name: &str, tag: &str) -> Option<Image> {
        self.0.lock().expect("whole").images.get(&(name.to_owned(), tag.to_owned())).cloned()
    }

    fn edit(&self, layers: &Layers, happens: &Happens) {
        let mut state = self.0.lock().expect("whole");
        let (Happens::KeyTagGone(at) | Happens::RecordGone(at) | Happens::LatestGone(at) | Happens::BuiltAgain(at)) =
            happens
        else {
            return;
        };
        let (layer, tag) = (name(*at), layers.jobs(&[]).remove(*at).1.key.tag());
        let (key, latest) = (image_name(&layer, &tag), image_name(&layer, LATEST));
        match happens {
            Happens::KeyTagGone(_) => drop(state.images.remove(&key)),
            Happens::LatestGone(_) => drop(state.images.remove(&latest)),
            Happens::RecordGone(_) => drop(state.images.get_mut(&key).map(|image| image.record = None)),
            _ => {
                if let Some(image) = state.images.get_mut(&key) {
                    image.digest = Digest::of(format!("another {}", image.digest));
                }
            }
        }
    }
}

fn name(at: usize) -> LayerName {
    LayerName::new(format!("l{at}"))
}

fn image_name(layer: &LayerName, tag: &str) -> (String, String) {
    (ImageName::new("test", layer).to_string(), tag.to_owned())
}

/// A small catalog: the parents of each layer are earlier ones.
#[derive(Debug, Clone)]
struct Layers {
    parents: Vec<BTreeSet<usize>>,
    versions: Vec<u8>,
}

impl Layers {
    /// The target and its ancestors, parents first; everything if there is no target.
    fn chosen(&self, target: Option<usize>) -> Vec<usize> {
        let Some(target) = target else { return (0..self.parents.len()).collect() };
        let (mut found, mut waiting) = (BTreeSet::new(), vec![target]);
        while let Some(at) = waiting.pop() {
            if found.insert(at) {
                waiting.extend(&self.parents[at]);
            }
        }
        found.into_iter().collect()
    }

    fn jobs(&self, chosen: &[usize]) -> Vec<(LayerName, Job)> {
        let mut jobs: Vec<(LayerName, Job)> = Vec::new();
        for (at, parents) in self.parents.iter().enumerate() {
            let keys = parents.iter().map(|parent| (format!("test/l{parent}"), jobs[*parent].1.key.clone()));
            let parts = parts(at, self.versions[at], keys.map(|(name, key)| (name, ParentKey::Layer(key))).collect());
            jobs.push((name(at), job(parts, parents)));
        }
        let kept = jobs.into_iter().enumerate().filter(|(at, _)| chosen.is_empty() || chosen.contains(at));
        kept.map(|(_, job)| job).collect()
    }
}

fn parts(at: usize, version: u8, parents: BTreeMap<String, ParentKey>) -> KeyParts {
    KeyParts { parents, ..samples::key_parts(name(at).as_str(), &version.to_string()) }
}

fn job(parts: KeyParts, parents: &BTreeSet<usize>) -> Job {
    let parent = |at: &usize| ParentImage {
        context: format!("test/l{at}"),
        image: ImageName::new("test", name(*at)),
        layer: name(*at),
        artifacts: None,
    };
    Job { parents: parents.iter().map(parent).collect(), ..test_kit::job(parts) }
}

#[async_trait]
impl Builder for World {
    /// An image of the key and the parents' images, and of the number of the build unless builds are reproducible.
    async fn build(&self, request: &BuildRequest, _: &BuildSink<'_>) -> Result<Built, Fault> {
        let mut state = self.0.lock().expect("whole");
        state.built += 1;
        let salt = if state.reproducible { 0 } else { state.built };
        let inputs = format!("{salt} {:?} {:?}", request.labels, request.named_contexts);
        Ok(Built { digest: Digest::of(inputs), steps: 1, cached: 0, platforms: request.platforms.clone() })
    }

    async fn verify(&self, _: &VerifyRequest) -> Result<Option<Digest>, Fault> {
        Ok(None)
    }
}

impl StagingFolder for World {
    fn path(&self) -> &Path {
        Path::new("")
    }
}

impl Claim for World {}

#[async_trait]
impl ImageStore for World {
    async fn find(&self, name: &str, tag: &str) -> Result<Option<Found>, ImageStoreError> {
        let found = |image: Image| Found { digest: image.digest, key: Some(image.key), platform: None, bytes: 0 };
        Ok(self.image(name, tag).map(found))
    }

    async fn record(&self, name: &str, tag: &str) -> Result<Option<ImageRecord>, ImageStoreError> {
        Ok(self.image(name, tag).and_then(|image| image.record))
    }

    async fn point(&self, name: &str, tag: &str, key: &LayerKey) -> Result<bool, ImageStoreError> {
        let Some(image) = self.image(name, &key.tag()) else { return Ok(false) };
        self.0.lock().expect("whole").images.insert((name.to_owned(), tag.to_owned()), image);
        Ok(true)
    }

    async fn claim(&self, _: &LayerKey) -> Result<Option<Box<dyn Claim>>, ImageStoreError> {
        Ok(Some(Box::new(self.clone())))
    }

    async fn staging(&self) -> Result<Box<dyn StagingFolder>, ImageStoreError> {
        Ok(Box::new(self.clone()))
    }

    fn source(&self, name: &str, digest: &Digest) -> ImageSource {
        ImageSource::Registry { name: name.to_owned(), digest: digest.clone() }
    }

    async fn promote(&self, staged: &Staged) -> Result<(), ImageStoreError> {
        let Staged { digest, key, record, .. } = staged.clone();
        let image = Image { digest, key: key.clone(), record: Some(record) };
        let mut state = self.0.lock().expect("whole");
        for tag in [key.tag(), LATEST.to_owned()] {
            state.images.insert((staged.name.to_string(), tag), image.clone());
        }
        Ok(())
    }
}

/// The plan for these layers and its jobs, as `prepare` makes them.
async fn planned(
    world: &World,
    layers: &Layers,
    chosen: &[usize],
    forced: &BTreeSet<LayerName>,
) -> (Plan, BTreeMap<LayerName, Job>) {
    let jobs = layers.jobs(chosen);
    let wanted: Vec<_> = jobs
        .iter()
        .map(|(layer, job)| stored::Wanted { layer, image: &job.image, key: &job.key, promotes: false })
        .collect();
    let mut stored = stored::find(world, &wanted, !forced.is_empty()).await.expect("a store that answers");
    let candidates = jobs.iter().map(|(layer, job)| {
        let parents = job.parents.iter().map(|parent| parent.layer.clone()).collect();
        candidate(job, parents, stored.remove(layer).unwrap_or_default(), samples::size())
    });
    let plan = plan::plan(candidates.collect(), forced);
    let jobs = jobs_to_build(&plan, jobs, forced);
    (plan, jobs)
}

/// Plans and builds as `apply` does. Returns how each layer ended.
async fn apply(world: &World, layers: &Layers, applied: &Applied) -> BTreeMap<LayerName, Option<Outcome>> {
    let chosen = layers.chosen(applied.target);
    let forced = applied.forced.iter().filter(|at| chosen.contains(at)).map(|at| name(*at)).collect();
    world.0.lock().expect("whole").reproducible = applied.reproducible;
    let (plan, jobs) = planned(world, layers, &chosen, &forced).await;
    for step in plan.steps.iter().filter(|step| step.digest.is_some()) {
        world.point(step.image.name.as_str(), LATEST, &step.key).await.expect("a store that answers");
    }
    let digests = plan.steps.iter().filter_map(|step| Some((step.layer.clone(), step.digest.clone()?))).collect();
    let specs = plan.steps.iter().map(|step| StepSpec {
        reuse: step.digest.clone(),
        ..test_kit::step_spec(step.layer.clone(), step.parents.clone(), "linux/amd64".into())
    });
    let id = RunId::from("r");
    let run = Run::new(id.clone(), specs.collect(), Limits { packed: true, claims: true, ..Limits::default() });
    let services = test_kit::services(Arc::new(world.clone()), Arc::new(world.clone()));
    let sinks = Sinks::start(Vec::new());
    let (_stop, stops) = mpsc::channel(1);
    let finished = execute(Work { id, run, jobs, digests }, services, sinks.emitter(), stops).await;
    sinks.close(PATIENCE);
    assert_eq!(finished.run.outcome(), RunOutcome::Success);
    plan.steps.iter().map(|step| (step.layer.clone(), finished.run.outcome_of(&step.layer))).collect()
}

/// What must hold right after a run of these layers.
async fn settled(world: &World, layers: &Layers, chosen: &[usize]) {
    let (plan, _) = planned(world, layers, chosen, &BTreeSet::new()).await;
    let again: Vec<_> = plan.steps.iter().filter(|step| step.action == Action::Build).map(|step| &step.layer).collect();
    assert!(again.is_empty(), "right after the run these are to be built: {again:?}");
    for (layer, job) in layers.jobs(chosen) {
        let image = world.image(job.image.as_str(), &job.key.tag()).expect("its image");
        let latest = world.image(job.image.as_str(), LATEST).expect("its latest image");
        assert_eq!(latest.digest, image.digest, "`latest` of {layer} is another version's image");
        for (parent, digest) in image.record.expect("its record").built_on {
            let job = layers.jobs(&[]).into_iter().find(|(layer, _)| *layer == parent).expect("a layer").1;
            let now = world.image(job.image.as_str(), &job.key.tag()).expect("the parent's image");
            assert_eq!(now.digest, digest, "{layer} stands on an old image of {parent}");
        }
    }
}

async fn run_all(mut layers: Layers, runs: Vec<Applied>) {
    let world = World::default();
    for applied in runs {
        for happens in &applied.before {
            match happens {
                Happens::Edit(at, version) => layers.versions[*at] = *version,
                happens => world.edit(&layers, happens),
            }
        }
        apply(&world, &layers, &applied).await;
        settled(&world, &layers, &layers.chosen(applied.target)).await;
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

prop_compose! {
    fn catalog()(count in 2..6usize)(
        parents in (0..count).map(|at| proptest::collection::btree_set(0..at.max(1), 0..=at.min(3))).collect::<Vec<_>>(),
    ) -> Layers {
        Layers { versions: vec![0; parents.len()], parents: parents.into_iter().enumerate()
            .map(|(at, parents)| if at == 0 { BTreeSet::new() } else { parents }).collect() }
    }
}

fn applied(count: usize) -> impl Strategy<Value = Applied> {
    let layer = move || 0..count;
    let happens = prop_oneof![
        3 => layer().prop_map(Happens::KeyTagGone),
        1 => layer().prop_map(Happens::RecordGone),
        1 => layer().prop_map(Happens::LatestGone),
        2 => (layer(), 0..2u8).prop_map(|(at, version)| Happens::Edit(at, version)),
        2 => layer().prop_map(Happens::BuiltAgain),
    ];
    let forced = prop_oneof![4 => Just(BTreeSet::new()), 1 => proptest::collection::btree_set(layer(), 1..2)];
    (proptest::collection::vec(happens, 0..3), proptest::option::weighted(0.3, layer()), forced, any::<bool>())
        .prop_map(|(before, target, forced, reproducible)| Applied { before, target, forced, reproducible })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn right_after_a_success_there_is_nothing_to_build(
        (layers, runs) in catalog().prop_flat_map(|layers| {
            let count = layers.parents.len();
            (Just(layers), proptest::collection::vec(applied(count), 1..5))
        })
    ) {
        runtime().block_on(run_all(layers, runs));
    }
}

#[test]
fn a_parent_that_comes_out_the_same_leaves_its_children_as_they_are() {
    let layers =
        Layers { parents: vec![BTreeSet::new(), BTreeSet::from([0]), BTreeSet::from([1])], versions: vec![0; 3] };
    let whole = |reproducible| Applied { before: Vec::new(), target: None, forced: BTreeSet::new(), reproducible };
    let ends = |reproducible| {
        runtime().block_on(async {
            let world = World::default();
            apply(&world, &layers, &whole(true)).await;
            world.edit(&layers, &Happens::KeyTagGone(0));
            apply(&world, &layers, &whole(reproducible)).await.into_values().flatten().collect::<Vec<_>>()
        })
    };
    assert_eq!(ends(true), [Outcome::Built, Outcome::Reused, Outcome::Reused]);
    assert_eq!(ends(false), [Outcome::Built, Outcome::Built, Outcome::Built]);
}

#[test]
fn what_is_reused_after_all_is_the_latest_again() {
    let layers = Layers { parents: vec![BTreeSet::new(), BTreeSet::from([0])], versions: vec![0; 2] };
    let run = |before: Vec<Happens>| Applied { before, target: None, forced: BTreeSet::new(), reproducible: true };
    let (edited, back) = (vec![Happens::Edit(1, 1)], vec![Happens::Edit(1, 0), Happens::KeyTagGone(0)]);
    runtime().block_on(run_all(layers, vec![run(Vec::new()), run(edited), run(back)]));
}
