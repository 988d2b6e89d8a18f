//! Finds layers whose platform differs from the first offer's because they request a runner type of another platform.
//! Not responsible for: layers that declare their platforms themselves.

use std::collections::BTreeMap;

use super::specs;
use super::survey::{Declarations, Survey};
use super::target_platforms::TargetPlatforms;
use crate::app::Error;
use crate::app::config::Config;
use crate::app::runners::provider_context::ProviderContext;
use crate::domain::base::{LayerName, Platform};
use crate::domain::graph::LayerGraph;
use crate::domain::model::{BuildSpec, Classified, Declared, FaultClass};
use crate::domain::sizing;

/// A layer's runner type conflicts with its parents.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error(
    "layer `{layer}` asks for `{runner_type}`, which is {platform}, and stands on `{parent}`, which is built for {other}"
)]
#[diagnostic(
    code(lian::cli::platforms),
    help(
        "name a runner type for {other} in the .build-spec.ncl of `{layer}`, or one for {platform} in that of `{parent}`"
    )
)]
struct Disagreement {
    layer: LayerName,
    runner_type: String,
    platform: Platform,
    parent: LayerName,
    other: Platform,
}

impl Classified for Disagreement {
    fn class(&self) -> FaultClass {
        FaultClass::Configuration
    }
}

/// Reads the declared layers for the provider's first platform. If a runner type requires another one, reads the
/// Dockerfiles again, because their meaning depends on the platform.
pub fn survey(
    config: &Config,
    provider_context: &ProviderContext,
    declarations: Declarations,
) -> Result<Survey, Error> {
    let default = provider_context.platform();
    let mixed = provider_context.offers.iter().any(|offer| offer.platform != default);
    if !mixed {
        return Ok(Survey::read(declarations, config, TargetPlatforms::all(default)));
    }
    let survey = Survey::read(declarations.clone(), config, TargetPlatforms::guessed(default.clone()));
    let Some(chosen) = Chosen::of(config, &survey)? else { return Ok(survey) };
    let decided = decided(&chosen, provider_context, &default)?;
    let first = decided.values().next().cloned();
    let of_first = |declared: &Declared| decided.get(&declared.layer.name) == first.as_ref();
    let mut platforms = match first.clone().filter(|_| survey.catalog.layers.iter().all(of_first)) {
        Some(first) => TargetPlatforms::guessed(first),
        None => TargetPlatforms { decided, ..survey.platforms.clone() },
    };
    platforms.builders = builders(&chosen, provider_context, &platforms)?;
    Ok(Survey::read(declarations, config, platforms))
}

/// The layers of a sound catalog that the targets need, with what their projects say of their runners.
struct Chosen<'a> {
    graph: LayerGraph,
    declared: BTreeMap<&'a LayerName, &'a Declared>,
    specs: BTreeMap<LayerName, BuildSpec>,
}

impl<'a> Chosen<'a> {
    /// `None` if the catalog is not sound.
    fn of(config: &Config, survey: &'a Survey) -> Result<Option<Self>, Error> {
        let Some(graph) = &survey.graph else { return Ok(None) };
        let targets: Vec<LayerName> = config.targets.iter().map(|name| LayerName::new(name.clone())).collect();
        let graph = match targets.as_slice() {
            [] => graph.clone(),
            targets => graph.with_targets(targets)?,
        };
        let declared: BTreeMap<&LayerName, &Declared> =
            survey.catalog.layers.iter().map(|declared| (&declared.layer.name, declared)).collect();
        let specs = specs::read(config, graph.layers().map(|layer| declared[layer]))?;
        Ok(Some(Self { graph, declared, specs }))
    }
}

/// The platforms of the runners.
fn builders(
    chosen: &Chosen<'_>,
    provider_context: &ProviderContext,
    platforms: &TargetPlatforms,
) -> Result<BTreeMap<LayerName, Platform>, Error> {
    let mut builders = BTreeMap::new();
    for layer in chosen.graph.layers() {
        let (declared, spec) = (chosen.declared[layer], chosen.specs.get(layer));
        let (language, offers) = (declared.layer.language.as_deref(), &provider_context.offers);
        let size = sizing::wanted(spec, language, offers, &provider_context.aliases)?;
        builders.insert(layer.clone(), provider_context.place_of(&size, &platforms.of(declared)));
    }
    Ok(builders)
}

/// The layers that are built for a platform other than the first offer's, with that platform.
fn decided(
    Chosen { graph, declared: by_name, specs }: &Chosen<'_>,
    provider_context: &ProviderContext,
    default: &Platform,
) -> Result<BTreeMap<LayerName, Platform>, Error> {
    let mut decided: BTreeMap<LayerName, Platform> = BTreeMap::new();
    for layer in graph.layers().filter(|layer| by_name[*layer].layer.platforms.is_empty()) {
        let own = specs.get(layer).map(|spec| named(spec, by_name[layer], provider_context)).transpose()?.flatten();
        let of_parent = |parent: &LayerName| match by_name[parent].layer.platforms.as_slice() {
            [] => Some(decided.get(parent).unwrap_or(default).clone()),
            // A build for several platforms chooses the right image by itself.
            [one] => Some(one.clone()),
            _ => None,
        };
        let parents: Vec<(&LayerName, Platform)> =
            graph.parents(layer).into_iter().filter_map(|parent| Some((parent, of_parent(parent)?))).collect();
        if let Some((runner_type, platform)) = &own
            && let Some((parent, other)) = parents.iter().find(|(_, other)| other != platform)
        {
            let (layer, parent, other) = (layer.clone(), (*parent).clone(), other.clone());
            let (runner_type, platform) = (runner_type.clone(), platform.clone());
            return Err(Error::from(Disagreement { layer, runner_type, platform, parent, other }));
        }
        let inherited = || parents.into_iter().next().map(|(_, platform)| platform);
        let platform = own.map(|(_, platform)| platform).or_else(inherited);
        if let Some(platform) = platform.filter(|platform| platform != default) {
            decided.insert(layer.clone(), platform);
        }
    }
    Ok(decided)
}

/// The runner type that a specification requests, with its platform.
fn named(
    spec: &BuildSpec,
    declared: &Declared,
    provider_context: &ProviderContext,
) -> Result<Option<(String, Platform)>, Error> {
    let size = sizing::wanted(
        Some(spec),
        declared.layer.language.as_deref(),
        &provider_context.offers,
        &provider_context.aliases,
    )?;
    let offer = spec.runner_type.as_ref().and_then(|_| sizing::named(&size, &provider_context.offers));
    Ok(offer.map(|offer| (offer.runner_type.clone(), offer.platform.clone())))
}
