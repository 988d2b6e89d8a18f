//! What every adapter needs once. Not responsible for: layers, runners, or anything else of the domain.

mod clock;
pub mod error_chain;
pub mod lock;
pub mod process;
pub mod shell;

pub use clock::{now, since_epoch};
