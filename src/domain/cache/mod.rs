//! Who may read and write which of the shared caches and images: namespaces by actor, and what directives ask for within them.
//! Pure. Not responsible for: reading or writing any.

mod access;
mod namespace;
mod word;

pub use access::{Access, CacheRef, ForbiddenRef, HARMLESS_ARGUMENTS, Identity, RefUse};
pub use namespace::{ActorId, Namespace, Workspace};
pub use word::NameFault;
