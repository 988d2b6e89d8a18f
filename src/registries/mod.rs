//! Floor 5: where images live. An OCI image layout on this machine as an image store, and questions to registries.
//! Refuses: building images.

mod collect;
mod credentials;
mod descriptor;
mod files;
mod index;
mod layout;
mod promote;
mod resolve;
mod staging;
mod substitute;

pub use collect::{Collected, KeepPolicy};
pub use layout::{InUse, Listed, OciLayout};
pub use resolve::{ResolveError, resolve};
pub use substitute::{Substitute, SubstituteError, layout_digest};
