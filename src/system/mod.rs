//! What every adapter needs once. Not responsible for: layers, runners, or anything else of the domain.

mod clock;
pub mod error_chain;
mod host;
pub mod lock;
pub mod process;
mod roots;
pub mod shell;

pub use clock::{now, since_epoch};
pub use host::host_platform;
pub use roots::{catalog_root, git_root, resolved};
