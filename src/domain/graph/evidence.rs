//! What is known of a catalog besides its declarations. Not responsible for: what follows from it.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::base::{LayerName, Platforms};
use crate::domain::model::DockerfileRead;

/// What is known of a catalog besides its declarations.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// What was read for each layer. A layer without an entry had no readable file (`context::check_files` reports
    /// that), and its Dockerfile is not checked.
    pub dockerfiles: &'a BTreeMap<LayerName, DockerfileRead>,
    /// Layers whose declaration did not evaluate: references to them are not reported.
    pub broken: &'a BTreeSet<LayerName>,
    /// What the layers are built for.
    pub platforms: KnownPlatforms<'a>,
    /// Whether there is no catalog, just one Dockerfile: then every image that it names comes from outside.
    pub alone: bool,
}

/// What is known of the platforms of layers.
#[derive(Debug, Clone, Copy)]
pub struct KnownPlatforms<'a> {
    /// What layers are built for. A layer without an entry is built for one platform, that of its runner, which is not
    /// decided yet.
    pub layers: &'a BTreeMap<LayerName, Platforms>,
    /// Whether the runners are known, and with them the meaning of `$BUILDPLATFORM`.
    pub builders: bool,
}
