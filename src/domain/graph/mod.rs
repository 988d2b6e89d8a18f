//! The sound graph of a catalog's layers, the faults that prevent one, and the parts of a layer's key. Not responsible
//! for: files, evaluation, and deciding what to build.

mod build;
mod cycles;
mod dockerfile_base;
mod dockerfiles;
mod evidence;
mod image_names;
mod key;
#[cfg(test)]
mod key_tests;
mod layer_graph;
mod layer_index;
mod mounts;
mod places;
mod platforms;
#[cfg(test)]
mod tests;
mod tools;

pub use build::build;
pub use dockerfiles::MISMATCH;
pub use evidence::{Evidence, KnownPlatforms};
pub use key::{KeyInputs, effective_build_args, key_parts, known_build_args};
pub use layer_graph::{ImageOrigin, Images, LayerGraph, UnknownTarget, UsedImage};
