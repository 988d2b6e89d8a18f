//! The parts of a layer key. Not responsible for: what does not decide a layer's content (language, sizes, where secrets come from).

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::base::{Digest, Platforms};
use crate::domain::model::{CatalogSettings, Declared, KeyParts, Layer, Listing, ParentKey};

/// Build arguments that a Dockerfile may see before it is known which it declares: the layer's own win over the
/// catalog's, the caller's (workflow and command line) over both.
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

/// Build arguments to hand over: those that the Dockerfile declares, and all of the layer's own.
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

/// What a key is made of beside the declaration.
#[derive(Debug, Clone, Copy)]
pub struct KeyInputs<'a> {
    /// Of the Dockerfile's bytes.
    pub dockerfile: &'a Digest,
    /// The context.
    pub listing: &'a Listing,
    /// As handed over ([`effective_build_args`]).
    pub build_args: &'a BTreeMap<String, String>,
    /// What the image is built for.
    pub platforms: &'a Platforms,
    /// The pinned frontend image; `None` for BuildKit's own.
    pub frontend: Option<&'a Digest>,
    /// By the name that the Dockerfile uses (`UsedImage::familiar`).
    pub parents: &'a BTreeMap<String, ParentKey>,
    /// Of the catalog; a layer's own value wins.
    pub labels: &'a BTreeMap<String, String>,
}

/// Gathers everything that decides a layer's content. Lists whose order means nothing are sorted.
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
        platforms: inputs.platforms.clone(),
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
