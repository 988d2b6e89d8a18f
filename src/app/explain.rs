//! What directives would do, found without building, and without asking any registry. Not responsible for: showing it.

use super::Error;
use super::config::Config;
use super::planning::specs;
use super::planning::survey::Survey;
use super::session::Session;
use crate::domain::cache::CacheRef;
use crate::domain::model::{LATEST, RegistryProvider};
use crate::report::Explained;

/// What the directives of this configuration would do with their one image, whose Dockerfile is sound.
pub fn explain(session: &Session, survey: &Survey) -> Result<Explained, Error> {
    let config = session.config();
    let scope = config.scope.as_ref().expect("invariant: directives have a scope");
    let declared = survey.catalog.layers.first().expect("invariant: directives have one image");
    let specs = specs::read(config, std::iter::once(declared))?;
    let platforms = survey.platforms.of(declared);
    let sizes = session.provider()?.sizes(declared, specs.get(&declared.layer.name), &platforms)?;
    let refs = |refs: &[CacheRef]| refs.iter().map(ToString::to_string).collect();
    Ok(Explained {
        actor: scope.policy.actor,
        workspace: scope.workspace.to_string(),
        reads: refs(&scope.access.reads),
        writes: refs(&scope.access.writes),
        disposition: scope.policy.disposition,
        size: sizes[0].clone(),
        provider: config.provider.value.to_string(),
        tags: tags(config, &format!("{}/{}", survey.catalog.settings.namespace, declared.layer.name)),
    })
}

/// The tags that move: the one that was asked for, and `latest`.
fn tags(config: &Config, image: &str) -> Vec<String> {
    let home = match (&config.workflow.registry, config.workflow.registry_provider) {
        (Some(registry), RegistryProvider::Registry) => format!("{}/", registry.address.trim_end_matches('/')),
        _ => String::new(),
    };
    config.tag.as_deref().into_iter().chain([LATEST]).map(|tag| format!("{home}{image}:{tag}")).collect()
}
