//! Floor 5: where runners come from. Refuses: what is done on them.

mod local;

pub use local::{Local, machine};
