//! A layer that may have to be built, with everything that is known about it. Not responsible for: finding it out.

use crate::domain::base::{Digest, LayerName};
use crate::domain::model::{ImageName, KeyParts, LayerKey, Size, Unusable};

/// A layer of the plan, before it is decided whether to build it.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// What determines its content.
    pub parts: KeyParts,
    /// The key of these parts.
    pub key: LayerKey,
    /// Its parents in the catalog. Each is an earlier candidate.
    pub parents: Vec<LayerName>,
    /// The name of its image: `lamina/rust`.
    pub image: ImageName,
    /// The verified image with this key, if there is one.
    pub existing: Option<Digest>,
    /// Parent whose image changed since the image with this key was built, which makes that image stale.
    pub rebased: Option<LayerName>,
    /// Why the image with this key cannot be used, if one is there.
    pub unusable: Option<Unusable>,
    /// The key parts of the image that `latest` points to, if they are known.
    pub latest: Option<KeyParts>,
    /// The size of the runner that it is built on.
    pub size: Size,
    /// The duration of earlier builds, in milliseconds.
    pub estimate_ms: Option<u64>,
}
