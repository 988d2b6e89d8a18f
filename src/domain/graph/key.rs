//! Gathers the parts of a layer key. What does not affect the content is left out: language, sizes, and where secrets
//! come from.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::base::{Digest, Platforms};
use crate::domain::model::{CatalogSettings, Declared, KeyParts, Layer, Listing, ParentKey};

/// The build arguments before it is known which of them the Dockerfile declares. The layer's own override the
/// catalog's; those of the caller (workflow and command line) override both.
pub fn known_build_args(
    settings: &CatalogSettings,
    workflow: &BTreeMap<String, String>,
    layer: &Layer,
) -> BTreeMap<String, String> {
    let mut args = settings.build_args.clone();
    args.extend(layer.build_args.clone());
    args.extend(workflow.clone());
    args
}

/// The build arguments to pass on: those that the Dockerfile declares, and all of the layer's own.
pub fn effective_build_args(
    settings: &CatalogSettings,
    workflow: &BTreeMap<String, String>,
    layer: &Layer,
    declared_args: &BTreeSet<String>,
) -> BTreeMap<String, String> {
    let mut args = known_build_args(settings, workflow, layer);
    args.retain(|name, _| declared_args.contains(name) || layer.build_args.contains_key(name));
    args
}

/// What a key consists of, besides the declaration.
#[derive(Debug, Clone, Copy)]
pub struct KeyInputs<'a> {
    /// The digest of the Dockerfile's bytes.
    pub dockerfile: &'a Digest,
    /// The context.
    pub listing: &'a Listing,
    /// The build arguments that are passed on ([`effective_build_args`]).
    pub build_args: &'a BTreeMap<String, String>,
    /// What the image is built for.
    pub platforms: &'a Platforms,
    /// The pinned frontend image; `None` for BuildKit's built-in one.
    pub frontend: Option<&'a Digest>,
    /// The keys of the parents, by the name that the Dockerfile uses (`UsedImage::context`).
    pub parents: &'a BTreeMap<String, ParentKey>,
    /// The catalog's labels. A layer's own value overrides them.
    pub labels: &'a BTreeMap<String, String>,
}

/// Gathers everything that affects a layer's content. Lists whose order has no meaning are sorted.
pub fn key_parts(declared: &Declared, inputs: &KeyInputs<'_>) -> KeyParts {
    let layer = &declared.layer;
    let mut labels = inputs.labels.clone();
    labels.extend(layer.labels.clone());
    KeyParts {
        schema: KeyParts::SCHEMA,
        layer: layer.name.clone(),
        dockerfile: inputs.dockerfile.clone(),
        ignore: inputs.listing.ignore.clone(),
        target: layer.target.clone(),
        files: inputs.listing.files.clone(),
        build_args: inputs.build_args.clone(),
        platforms: inputs.platforms.sorted(),
        frontend: inputs.frontend.cloned(),
        secret_ids: sorted(layer.secrets.iter().map(|secret| secret.id.clone())),
        ssh_ids: sorted(layer.ssh.iter().cloned()),
        labels,
        tools: sorted(layer.tools_provided.iter().cloned()),
        artifact_paths: sorted(layer.artifact_paths.iter().cloned()),
        parents: inputs.parents.clone(),
    }
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    items.collect::<BTreeSet<T>>().into_iter().collect()
}
