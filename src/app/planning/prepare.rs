//! From a sound graph to a plan and the jobs that carry it out: contexts, pins, keys, what exists already. Not responsible for:
//! deciding (see `plan`) and building.

use std::collections::{BTreeMap, BTreeSet};

use super::pins::{self, Pins};
use super::survey::Survey;
use crate::adapters::context::Reader;
use crate::adapters::store::Store;
use crate::app::config::Config;
use crate::app::execute::{Job, ParentImage};
use crate::app::planning::specs;
use crate::app::runners::provider_context::ProviderContext;
use crate::app::{Error, UsageError};
use crate::domain::base::{Digest, LayerName};
use crate::domain::graph::{self, ImageOrigin, LayerGraph};
use crate::domain::model::{
    Action, Declared, DockerfileFacts, ImageRef, KeyParts, LayerKey, Listing, ParentKey, Plan, Secret, Size,
};
use crate::domain::plan::{self, Candidate};
use crate::domain::ports::{
    BuildRequest, ContextError, ContextReader, ImageStore, NamedContext, SecretSource, SecretValue,
};

/// A plan with everything that is needed to carry it out.
pub struct PreparedPlan {
    /// What is done.
    pub plan: Plan,
    /// The work of every layer that is built.
    pub jobs: BTreeMap<LayerName, Job>,
    /// The images of the layers that are reused.
    pub digests: BTreeMap<LayerName, Digest>,
    /// External images.
    pub pins: Pins,
    /// What each layer runs on: the size to begin with, then those above it.
    pub sizes: BTreeMap<LayerName, Vec<Size>>,
}

/// What is known of one layer before it is planned.
struct Inputs<'a> {
    declared: &'a Declared,
    facts: &'a DockerfileFacts,
    listing: Listing,
}

/// Draws the plan of a survey whose graph is sound.
pub async fn prepare(
    settings: &Config,
    survey: &Survey,
    graph: &LayerGraph,
    images: Option<&dyn ImageStore>,
    history: Option<&Store>,
    provider_context: &ProviderContext,
) -> Result<PreparedPlan, Error> {
    let forced: BTreeSet<LayerName> = names(&settings.forced).into_iter().collect();
    if let Some(unknown) = forced.iter().find(|layer| !graph.contains(layer)) {
        graph.with_targets(std::slice::from_ref(unknown))?;
    }
    let graph = &match settings.targets.as_slice() {
        [] => graph.clone(),
        targets => graph.with_targets(&names(targets))?,
    };
    let chosen: Vec<LayerName> = graph.layers().cloned().collect();
    let inputs = read_contexts(settings, survey, &chosen)?;
    let mut externals: BTreeSet<ImageRef> = BTreeSet::new();
    for layer in &chosen {
        externals.extend(graph.externals(layer));
        externals.extend(frontend(inputs[layer].declared)?);
    }
    let pins = pins::find(settings, &survey.platforms.default, &externals).await?;
    let specs = specs::read(settings, chosen.iter().map(|layer| inputs[layer].declared))?;
    let mut keys: BTreeMap<LayerName, LayerKey> = BTreeMap::new();
    let mut candidates = Vec::with_capacity(chosen.len());
    let mut jobs = BTreeMap::new();
    let mut current: BTreeMap<LayerName, Option<Digest>> = BTreeMap::new();
    let mut sizes = BTreeMap::new();
    for layer in &chosen {
        let input = &inputs[layer];
        let mut job = job(settings, survey, graph, &pins, &keys, input)?;
        if provider_context.is_remote(settings) {
            job.request.push = images.and_then(|images| images.push_target(&job.image));
        }
        keys.insert(layer.clone(), job.key.clone());
        let (existing, rebased) = match images {
            Some(images) => existing(images, &job, &current).await?,
            None => (None, None),
        };
        // What an image that is reused was made of is nobody's question.
        let latest = match (images, existing.is_some() && forced.is_empty()) {
            (Some(images), false) => images.record(&job.image, "latest").await?.map(|record| record.parts),
            _ => None,
        };
        current.insert(layer.clone(), existing.clone());
        let ladder = provider_context.sizes(settings, input.declared, specs.get(layer), &job.request.platform)?;
        let size = ladder[0].clone();
        sizes.insert(layer.clone(), ladder);
        candidates.push(Candidate {
            parts: job.parts.clone(),
            key: job.key.clone(),
            parents: graph.parents(layer).into_iter().cloned().collect(),
            image: job.image.clone(),
            existing,
            rebased,
            latest,
            size,
            estimate_ms: history.and_then(|store| store.estimate(layer)),
        });
        jobs.insert(layer.clone(), job);
    }
    let plan = plan::plan(candidates, &forced);
    let digests: BTreeMap<LayerName, Digest> =
        plan.steps.iter().filter_map(|step| Some((step.layer.clone(), step.digest.clone()?))).collect();
    let reused = |layer: &LayerName| BTreeMap::<LayerName, Digest>::contains_key(&digests, layer);
    jobs.retain(|layer, _| !reused(layer));
    for step in plan.steps.iter().filter(|step| step.action == Action::Build) {
        if let Some(job) = jobs.get_mut(&step.layer) {
            job.forced = rebuild_required(&plan, &forced, &step.layer);
        }
    }
    Ok(PreparedPlan { plan, jobs, digests, pins, sizes })
}

/// The verified image of a layer's key, if it stands on the images that its parents have now; else the parent that was
/// rebuilt: one that was forced has another image under the same key.
async fn existing(
    images: &dyn ImageStore,
    job: &Job,
    current: &BTreeMap<LayerName, Option<Digest>>,
) -> Result<(Option<Digest>, Option<LayerName>), Error> {
    let Some(found) =
        images.find(&job.image, &job.key.tag()).await?.filter(|found| found.key.as_ref() == Some(&job.key))
    else {
        return Ok((None, None));
    };
    let Some(built_on) = images.built_on(&job.image, &job.key).await? else { return Ok((None, None)) };
    let rebuilt =
        |(parent, was): &(&LayerName, &Digest)| matches!(current.get(*parent), Some(Some(now)) if now != *was);
    Ok(match built_on.iter().find(rebuilt) {
        Some((parent, _)) => (None, Some(parent.clone())),
        None => (Some(found.digest), None),
    })
}

/// Gives every job that is carried out its secrets; all that lack a value are told at once.
pub fn give_secrets(settings: &Config, survey: &Survey, jobs: &mut BTreeMap<LayerName, Job>) -> Result<(), Error> {
    let mut missing = Vec::new();
    for declared in &survey.catalog.layers {
        if let Some(job) = jobs.get_mut(&declared.layer.name) {
            job.request.secrets = secrets(settings, declared, &mut missing);
        }
    }
    match missing.len() {
        0 => Ok(()),
        _ => Err(Error::from(UsageError::MissingSecrets { missing: missing.join("; ") })),
    }
}

/// Reads every context, each once, on as many threads as there are processors.
fn read_contexts<'a>(
    settings: &Config,
    survey: &'a Survey,
    chosen: &[LayerName],
) -> Result<BTreeMap<LayerName, Inputs<'a>>, Error> {
    let reader = Reader;
    let by_name: BTreeMap<&LayerName, &Declared> =
        survey.catalog.layers.iter().map(|declared| (&declared.layer.name, declared)).collect();
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).min(chosen.len().max(1));
    let next = std::sync::atomic::AtomicUsize::new(0);
    let listings: Vec<(usize, Result<Listing, ContextError>)> = std::thread::scope(|scope| {
        let work = || {
            let mut done = Vec::new();
            loop {
                let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let Some(layer) = chosen.get(index) else { return done };
                let declared = by_name[layer];
                let (context, dockerfile) = (declared.context_dir(), declared.dockerfile_path());
                done.push((index, reader.list(settings.project.root(), &context, &dockerfile)));
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("invariant: readers do not panic")).collect()
    });
    let mut inputs = BTreeMap::new();
    for (index, listing) in listings {
        let layer = &chosen[index];
        let facts =
            survey.dockerfiles[layer].facts.as_ref().expect("invariant: a sound graph has read every Dockerfile");
        inputs.insert(layer.clone(), Inputs { declared: by_name[layer], facts, listing: listing? });
    }
    Ok(inputs)
}

fn job(
    settings: &Config,
    survey: &Survey,
    graph: &LayerGraph,
    pins: &Pins,
    keys: &BTreeMap<LayerName, LayerKey>,
    input: &Inputs<'_>,
) -> Result<Job, Error> {
    let (declared, layer) = (input.declared, &input.declared.layer);
    let namespace = &survey.catalog.settings.namespace;
    let mut parents: BTreeMap<String, ParentKey> = BTreeMap::new();
    let mut parent_images = Vec::new();
    let mut named_contexts = Vec::new();
    for used in graph.images(&layer.name) {
        let context = used.familiar.clone();
        match &used.origin {
            ImageOrigin::External(image) => {
                let Some(digest) = pins.digest(image) else { continue };
                parents.insert(context.clone(), ParentKey::External(digest.clone()));
                let source = pins.sources[&image.to_string()].clone();
                named_contexts.push(NamedContext { name: context, source });
            }
            ImageOrigin::Layer(parent) => {
                parents.insert(context.clone(), ParentKey::Layer(keys[parent].clone()));
                let image = format!("{namespace}/{parent}");
                parent_images.push(ParentImage { context, image, layer: parent.clone(), artifacts: None });
            }
            ImageOrigin::Artifacts(parent) => {
                parents.insert(context.clone(), ParentKey::Layer(keys[parent].clone()));
                let (image, tag) = (format!("{namespace}/{parent}-artifacts"), keys[parent].tag());
                parent_images.push(ParentImage { context, image, layer: parent.clone(), artifacts: Some(tag) });
            }
        }
    }
    let frontend_pin = frontend(declared)?.and_then(|image| Some((pins.digest(&image)?.clone(), image)));
    let (catalog, facts) = (&survey.catalog.settings, input.facts);
    let build_args = graph::effective_build_args(catalog, &settings.build_args, layer, &facts.declared_args);
    let platform = survey.platforms.of(declared);
    let parts: KeyParts = graph::key_parts(
        declared,
        &graph::KeyInputs {
            dockerfile: &input.listing.dockerfile,
            listing: &input.listing,
            build_args: &build_args,
            platform: &platform,
            frontend: frontend_pin.as_ref().map(|(digest, _)| digest),
            parents: &parents,
            labels: &catalog.labels,
        },
    );
    let labels = parts.labels.clone();
    let request = BuildRequest {
        context: declared.context_dir(),
        dockerfile: declared.dockerfile_path(),
        target: layer.target.clone(),
        build_args,
        platform,
        labels,
        secrets: Vec::new(),
        ssh: layer.ssh.clone(),
        named_contexts,
        frontend: frontend_pin.map(|(digest, image)| format!("{}@{digest}", image.name())),
        staging: std::path::PathBuf::new(),
        push: None,
    };
    Ok(Job {
        image: format!("{namespace}/{}", layer.name),
        request,
        parents: parent_images,
        key: parts.key(),
        parts,
        forced: false,
        listing: input.listing.clone(),
        tools: layer.tools_provided.clone(),
        artifact_paths: layer.artifact_paths.clone(),
    })
}

fn names(texts: &[String]) -> Vec<LayerName> {
    texts.iter().map(|text| LayerName::new(text.clone())).collect()
}

pub fn frontend(declared: &Declared) -> Result<Option<ImageRef>, Error> {
    let Some(text) = &declared.layer.frontend else { return Ok(None) };
    let image = text
        .parse()
        .map_err(|error| Error::from(UsageError::BaseImage { given: text.clone(), what: format!("{error}") }))?;
    Ok(Some(image))
}

/// The secrets that have a value; what a required one lacks is added to `missing`. The caller's CA bundle is the value
/// of `ca`.
fn secrets(settings: &Config, declared: &Declared, missing: &mut Vec<String>) -> Vec<SecretSource> {
    let mut sources = Vec::new();
    for secret in &declared.layer.secrets {
        match value_of(settings, declared, secret) {
            Ok(Some(value)) => sources.push(SecretSource { id: secret.id.clone(), value }),
            Err(what) if secret.required => {
                missing.push(format!("`{}` of layer `{}`: {what}", secret.id, declared.layer.name));
            }
            Ok(None) | Err(_) => {}
        }
    }
    sources
}

fn value_of(settings: &Config, declared: &Declared, secret: &Secret) -> Result<Option<SecretValue>, String> {
    match (&secret.env, &secret.file, &settings.ca_bundle.value) {
        (_, _, Some(bundle)) if secret.id == "ca" => Ok(Some(SecretValue::File(bundle.clone()))),
        (Some(name), _, _) if std::env::var_os(name).is_some_and(|value| !value.is_empty()) => {
            Ok(Some(SecretValue::Env(name.clone())))
        }
        (Some(name), None, _) => Err(format!("the environment variable {name} is not set")),
        (_, Some(file), _) => {
            let path = declared.folder().join(file);
            if path.is_file() {
                Ok(Some(SecretValue::File(path)))
            } else {
                Err(format!("{} is not there", path.display()))
            }
        }
        (None, None, _) => Err("its declaration names neither `env` nor `file`".to_owned()),
    }
}

/// Whether a layer is built because it, or something that it stands on, was forced: an image of its key does not do.
fn rebuild_required(plan: &Plan, forced: &BTreeSet<LayerName>, layer: &LayerName) -> bool {
    let mut waiting = vec![layer];
    let mut seen = BTreeSet::new();
    while let Some(layer) = waiting.pop() {
        if forced.contains(layer) {
            return true;
        }
        if seen.insert(layer) {
            waiting
                .extend(plan.steps.iter().find(|step| step.layer == *layer).into_iter().flat_map(|step| &step.parents));
        }
    }
    false
}
