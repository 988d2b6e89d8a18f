//! From a sound graph to a plan and the jobs that carry it out: contexts, pins, keys, what exists already. Refuses:
//! deciding (see `plan`) and building.

use std::collections::{BTreeMap, BTreeSet};

use super::exit::{Failure, UsageError};
use super::pins::{self, Pins};
use super::settings::Settings;
use super::survey::{self, Survey};
use crate::base::{Digest, LayerName};
use crate::context::Reader;
use crate::drive::{Job, ParentImage};
use crate::graph::{self, ImageOrigin, LayerGraph};
use crate::model::{Declared, DockerfileFacts, ImageRef, KeyParts, LayerKey, Listing, ParentKey, Plan, Secret};
use crate::plan::{self, Candidate};
use crate::ports::{BuildRequest, ContextError, ContextReader, ImageStore, NamedContext, SecretSource, SecretValue};
use crate::registries::OciLayout;
use crate::sizing;
use crate::store::Store;

/// A plan with everything that is needed to carry it out.
pub struct Blueprint {
    /// What is done.
    pub plan: Plan,
    /// The work of every layer that is built.
    pub jobs: BTreeMap<LayerName, Job>,
    /// The images of the layers that are reused.
    pub digests: BTreeMap<LayerName, Digest>,
    /// External images.
    pub pins: Pins,
}

/// What is known of one layer before it is planned.
struct Inputs<'a> {
    declared: &'a Declared,
    facts: &'a DockerfileFacts,
    listing: Listing,
}

/// Draws the plan of a survey whose graph is sound.
pub fn draw(
    settings: &Settings,
    survey: &Survey,
    graph: &LayerGraph,
    images: Option<&OciLayout>,
    history: Option<&Store>,
) -> Result<Blueprint, Failure> {
    let forced: BTreeSet<LayerName> = names(&settings.forced).into_iter().collect();
    if let Some(unknown) = forced.iter().find(|layer| !graph.contains(layer)) {
        graph.with_targets(std::slice::from_ref(unknown)).map_err(Failure::usage)?;
    }
    let graph = &match settings.targets.as_slice() {
        [] => graph.clone(),
        targets => graph.with_targets(&names(targets)).map_err(Failure::usage)?,
    };
    let chosen: Vec<LayerName> = graph.layers().cloned().collect();
    let inputs = read_contexts(settings, survey, &chosen)?;
    let mut externals: BTreeSet<ImageRef> = BTreeSet::new();
    for layer in &chosen {
        externals.extend(graph.externals(layer));
        externals.extend(frontend(inputs[layer].declared)?);
    }
    let pins = pins::find(settings, &externals)?;
    let mut keys: BTreeMap<LayerName, LayerKey> = BTreeMap::new();
    let mut candidates = Vec::with_capacity(chosen.len());
    let mut jobs = BTreeMap::new();
    for layer in &chosen {
        let input = &inputs[layer];
        let job = job(settings, survey, graph, &pins, &keys, input)?;
        keys.insert(layer.clone(), job.key.clone());
        let found = images.map(|images| images.find(&job.image, &job.key.tag())).transpose()?.flatten();
        let existing = found.filter(|found| found.key.as_ref() == Some(&job.key)).map(|found| found.digest);
        let latest = images.map(|images| images.parts(&job.image, "latest")).transpose()?.flatten();
        candidates.push(Candidate {
            parts: job.parts.clone(),
            key: job.key.clone(),
            parents: graph.parents(layer).into_iter().cloned().collect(),
            image: job.image.clone(),
            existing,
            latest,
            size: sizing::resolve(None, input.declared.layer.language.as_deref()),
            estimate_ms: history.and_then(|store| store.estimate(layer)),
        });
        jobs.insert(layer.clone(), job);
    }
    let plan = plan::plan(candidates, &forced);
    let digests = plan.steps.iter().filter_map(|step| Some((step.layer.clone(), step.digest.clone()?))).collect();
    jobs.retain(|layer, _| plan.steps.iter().any(|step| step.layer == *layer && step.digest.is_none()));
    Ok(Blueprint { plan, jobs, digests, pins })
}

/// Reads every context, each once, on as many threads as there are processors.
fn read_contexts<'a>(
    settings: &Settings,
    survey: &'a Survey,
    chosen: &[LayerName],
) -> Result<BTreeMap<LayerName, Inputs<'a>>, Failure> {
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
                done.push((index, reader.list(&settings.project_root, &context, &dockerfile)));
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
    settings: &Settings,
    survey: &Survey,
    graph: &LayerGraph,
    pins: &Pins,
    keys: &BTreeMap<LayerName, LayerKey>,
    input: &Inputs<'_>,
) -> Result<Job, Failure> {
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
    let platform = survey::platform(declared);
    let parts: KeyParts = graph::key_parts(
        declared,
        &graph::KeyInputs {
            dockerfile: &survey.texts[&layer.name],
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
        secrets: secrets(settings, declared)?,
        ssh: layer.ssh.clone(),
        named_contexts,
        frontend: frontend_pin.map(|(digest, image)| format!("{}@{digest}", image.name())),
        staging: std::path::PathBuf::new(),
    };
    Ok(Job {
        image: format!("{namespace}/{}", layer.name),
        request,
        parents: parent_images,
        key: parts.key(),
        parts,
        listing: input.listing.clone(),
        tools: layer.tools_provided.clone(),
        artifact_paths: layer.artifact_paths.clone(),
    })
}

fn names(texts: &[String]) -> Vec<LayerName> {
    texts.iter().map(|text| LayerName::new(text.clone())).collect()
}

pub fn frontend(declared: &Declared) -> Result<Option<ImageRef>, Failure> {
    let Some(text) = &declared.layer.frontend else { return Ok(None) };
    let image = text
        .parse()
        .map_err(|error| Failure::usage(UsageError::BaseImage { given: text.clone(), what: format!("{error}") }))?;
    Ok(Some(image))
}

/// The secrets that have a value. The caller's CA bundle is the value of `ca`.
fn secrets(settings: &Settings, declared: &Declared) -> Result<Vec<SecretSource>, Failure> {
    let mut sources = Vec::new();
    for secret in &declared.layer.secrets {
        match value_of(settings, declared, secret) {
            Ok(Some(value)) => sources.push(SecretSource { id: secret.id.clone(), value }),
            Ok(None) => {}
            Err(what) if secret.required => {
                let help = match (&secret.env, &secret.file) {
                    (Some(name), _) => format!("set the environment variable {name}"),
                    (_, Some(file)) => format!("write the value to {file}"),
                    _ => "give it `env` or `file` in the layer's `secrets`".to_owned(),
                };
                let (id, layer) = (secret.id.clone(), declared.layer.name.to_string());
                return Err(Failure::usage(UsageError::MissingSecret { id, layer, what, help }));
            }
            Err(_) => {}
        }
    }
    Ok(sources)
}

fn value_of(settings: &Settings, declared: &Declared, secret: &Secret) -> Result<Option<SecretValue>, String> {
    match (&secret.env, &secret.file, &settings.ca_bundle) {
        (_, _, Some(bundle)) if secret.id == "ca" => Ok(Some(SecretValue::File(bundle.clone()))),
        (Some(name), _, _) if std::env::var_os(name).is_some() => Ok(Some(SecretValue::Env(name.clone()))),
        (Some(name), None, _) => Err(format!("{name} is not set")),
        (_, Some(file), _) => {
            let path = declared.folder().join(file);
            if path.is_file() {
                Ok(Some(SecretValue::File(path)))
            } else {
                Err(format!("{} is not there", path.display()))
            }
        }
        (None, None, _) if secret.required => Err("no source is declared".to_owned()),
        (None, None, _) => Ok(None),
    }
}
