//! Floor 5: where runners come from. Refuses: what is done on them.

mod local;
mod ssh;

pub use local::{Local, machine};
pub use ssh::Ssh;
