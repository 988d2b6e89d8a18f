//! A layer that may have to be built, with all that is known of it. Not responsible for: finding it out.

use crate::domain::base::{Digest, LayerName};
use crate::domain::model::{ImageName, KeyParts, LayerKey, Size};

/// A layer of the plan before it is decided upon.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// What decides its content.
    pub parts: KeyParts,
    /// The key of these parts.
    pub key: LayerKey,
    /// Its parents in the catalog, each a candidate that comes earlier.
    pub parents: Vec<LayerName>,
    /// The name of its image: `lamina/rust`.
    pub image: ImageName,
    /// The verified image with this key, where there is one.
    pub existing: Option<Digest>,
    /// The parent that was built again since the image with this key was built, so that this one is none.
    pub rebased: Option<LayerName>,
    /// The parts of the image that `latest` points to, where they are known.
    pub latest: Option<KeyParts>,
    /// What it is built on.
    pub size: Size,
    /// What earlier builds took, in milliseconds.
    pub estimate_ms: Option<u64>,
}
