//! Values for tests, as plain as they can be: a test names what it is about and takes the rest from here. Not
//! responsible for: ports that answer (see `fakes`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{BuildRequest, Definition, SharedCaches};
use crate::domain::base::Digest;
use crate::domain::model::{KeyParts, LayerKey, Listing, ParentKey, Size};

/// The parts of a key of a layer with this Dockerfile, which stands on nothing.
pub fn key_parts(layer: &str, dockerfile: &str) -> KeyParts {
    KeyParts {
        schema: KeyParts::SCHEMA,
        layer: layer.into(),
        dockerfile: Digest::of(dockerfile),
        ignore: None,
        target: None,
        files: BTreeMap::new(),
        build_args: BTreeMap::new(),
        platforms: "linux/amd64".into(),
        frontend: None,
        secret_ids: Vec::new(),
        ssh_ids: Vec::new(),
        labels: BTreeMap::new(),
        tools: Vec::new(),
        artifact_paths: Vec::new(),
        parents: BTreeMap::new(),
    }
}

/// Parents of the catalog, as they stand in a key.
pub fn parent_keys<'a>(parents: impl IntoIterator<Item = (&'a str, &'a LayerKey)>) -> BTreeMap<String, ParentKey> {
    parents.into_iter().map(|(name, key)| (name.to_owned(), ParentKey::Layer(key.clone()))).collect()
}

/// A request that asks for nothing in particular.
pub fn build_request() -> BuildRequest {
    BuildRequest {
        context: PathBuf::new(),
        folder_modes: None,
        dockerfile: PathBuf::new(),
        definition: Definition::default(),
        target: None,
        build_args: BTreeMap::new(),
        platforms: "linux/amd64".into(),
        labels: BTreeMap::new(),
        secrets: Vec::new(),
        ssh: Vec::new(),
        named_contexts: Vec::new(),
        stand_ins: Vec::new(),
        frontend: None,
        staging: PathBuf::new(),
        push: None,
        caches: SharedCaches::default(),
    }
}

/// A context without files.
pub fn listing() -> Listing {
    Listing { files: BTreeMap::new(), bytes: 0, dockerfile: Digest::of("FROM scratch"), ignore: None }
}

/// A small runner.
pub fn size() -> Size {
    let (runner_type, tier) = ("t".to_owned(), "language_default".to_owned());
    Size { runner_type, cpu: 2, memory_gb: 4, time_budget_min: 30, tier }
}
