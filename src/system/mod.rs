//! What every adapter needs once. Not responsible for: layers, runners, or anything else of the domain.

mod clock;
mod host;
mod roots;

pub use clock::now;
pub use host::host_platform;
pub use roots::{catalog_root, git_root, resolved};
