//! Creates a plan and its jobs from a valid graph: contexts, pins, keys, existing images. Not responsible for:
//! deciding what is rebuilt (see `plan`), building.

use std::collections::{BTreeMap, BTreeSet};

use super::jobs::JobMaker;
use super::prepared_plan::PreparedPlan;
use super::stored::{self, Stored, Wanted};
use super::survey::Survey;
use super::{contexts, pins, specs};
use crate::adapters::store::Store;
use crate::app::Error;
use crate::app::cache_scope::CacheScope;
use crate::app::config::Config;
use crate::app::execute::Job;
use crate::app::runners::provider_context::ProviderContext;
use crate::domain::base::{Digest, LayerName};
use crate::domain::graph::LayerGraph;
use crate::domain::model::{Action, Plan, Size};
use crate::domain::plan::{self, Candidate};
use crate::domain::ports::{ImageStore, SharedCaches};

/// Data from earlier runs.
#[derive(Clone, Copy, Default)]
pub struct Past<'a> {
    /// The images built so far; `None` if there is no store yet.
    pub images: Option<&'a dyn ImageStore>,
    /// How long builds took; `None` if there is no history yet.
    pub history: Option<&'a Store>,
}

/// Creates the plan of a survey with a valid graph.
pub async fn prepare(
    config: &Config,
    survey: &Survey,
    graph: &LayerGraph,
    past: Past<'_>,
    provider_context: &ProviderContext,
) -> Result<PreparedPlan, Error> {
    let forced = forced_layers(config, graph)?;
    let graph = &chosen_graph(config, graph)?;
    let chosen: Vec<LayerName> = graph.layers().cloned().collect();
    let inputs = contexts::read(config, survey, &chosen, provider_context.modes(config)).await?;
    let mut externals = pins::Wanted::new();
    for input in &inputs {
        for (image, platforms) in graph.externals(&input.declared.layer.name) {
            externals.entry(image.clone()).or_default().extend(platforms.iter().cloned());
        }
        if let Some(frontend) = pins::frontend(input.declared)? {
            // It runs on the builder.
            externals.entry(frontend).or_default().insert(survey.platforms.builder(input.declared).normalised());
        }
    }
    if let Some(scope) = &config.scope {
        externals.keys().try_for_each(|image| scope.check_read(image))?;
    }
    let pins = pins::find(config, &externals).await?;
    let specs = specs::read(config, inputs.iter().map(|input| input.declared))?;
    let mut jobs = JobMaker { config, survey, graph, pins: &pins }.jobs(&inputs)?;
    let mut stored = BTreeMap::new();
    if let Some(images) = past.images {
        if provider_context.is_remote() {
            jobs.iter_mut().for_each(|(_, job)| job.request.push = images.push_target(job.image.as_str()));
        }
        if let Some(scope) = &config.scope {
            jobs.iter_mut().for_each(|(layer, job)| job.request.caches = shared_caches(scope, images, layer));
        }
        // The record of a reused image is needed only if something may be built on it.
        let wanted = jobs.iter().map(|(layer, job)| {
            let promotes = !job.artifact_paths.is_empty();
            Wanted { layer, image: &job.image, key: &job.key, promotes }
        });
        stored = stored::find(images, &wanted.collect::<Vec<_>>(), !forced.is_empty()).await?;
    }
    let mut sizes = BTreeMap::new();
    let mut candidates = Vec::with_capacity(jobs.len());
    for (input, (layer, job)) in inputs.iter().zip(&jobs) {
        let ladder = provider_context.sizes(input.declared, specs.get(layer), &job.request.platforms)?;
        let stored = stored.remove(layer).unwrap_or_default();
        let parents = graph.parents(layer).into_iter().cloned().collect();
        let estimate_ms = past.history.and_then(|store| store.estimate(layer));
        candidates.push(Candidate { estimate_ms, ..candidate(job, parents, stored, ladder[0].clone()) });
        sizes.insert(layer.clone(), ladder);
    }
    let plan = plan::plan(candidates, &forced);
    let digests: BTreeMap<LayerName, Digest> =
        plan.steps.iter().filter_map(|step| Some((step.layer.clone(), step.digest.clone()?))).collect();
    let jobs = jobs_to_build(&plan, jobs, &forced);
    Ok(PreparedPlan { plan, jobs, digests, pins, sizes })
}

/// The caches of a layer's image, where the store is one that builders reach.
fn shared_caches(scope: &CacheScope, images: &dyn ImageStore, layer: &LayerName) -> SharedCaches {
    let (from, to) = scope.caches(layer.as_str());
    let target = |repository: &String| images.push_target(repository);
    let target_of_own = to.as_ref().and_then(target);
    let repository = to.filter(|_| target_of_own.is_some());
    SharedCaches { from: from.iter().filter_map(target).collect(), to: target_of_own, repository }
}

/// The layers that are always built; each must be in the catalog.
fn forced_layers(config: &Config, graph: &LayerGraph) -> Result<BTreeSet<LayerName>, Error> {
    let forced: BTreeSet<LayerName> = names(&config.forced).into_iter().collect();
    if let Some(unknown) = forced.iter().find(|layer| !graph.contains(layer)) {
        graph.with_targets(std::slice::from_ref(unknown))?;
    }
    Ok(forced)
}

/// The targets and all their ancestors; every layer if no target is given.
fn chosen_graph(config: &Config, graph: &LayerGraph) -> Result<LayerGraph, Error> {
    match config.targets.as_slice() {
        [] => Ok(graph.clone()),
        targets => graph.with_targets(&names(targets)).map_err(Error::from),
    }
}

fn candidate(job: &Job, parents: Vec<LayerName>, stored: Stored, size: Size) -> Candidate {
    Candidate {
        parts: job.parts.clone(),
        key: job.key.clone(),
        parents,
        image: job.image.clone(),
        existing: stored.existing,
        rebased: stored.rebased,
        unusable: stored.unusable,
        latest: stored.latest,
        size,
        estimate_ms: None,
    }
}

/// The jobs of the layers that are built.
fn jobs_to_build(plan: &Plan, jobs: Vec<(LayerName, Job)>, forced: &BTreeSet<LayerName>) -> BTreeMap<LayerName, Job> {
    let mut jobs: BTreeMap<LayerName, Job> = jobs.into_iter().collect();
    for step in &plan.steps {
        if step.digest.is_some() {
            jobs.remove(&step.layer);
        } else if step.action == Action::Build
            && let Some(job) = jobs.get_mut(&step.layer)
        {
            job.forced = rebuild_required(plan, forced, &step.layer);
        }
    }
    jobs
}

fn names(texts: &[String]) -> Vec<LayerName> {
    texts.iter().map(|text| LayerName::new(text.clone())).collect()
}

/// Whether a build of this layer or of one of its ancestors was forced: an existing image with its key is not reused.
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

#[cfg(test)]
#[path = "fixed_point_tests.rs"]
mod fixed_point_tests;
