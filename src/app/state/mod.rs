//! A project's state: the user's folder for it, out of the project's tree, and the record that says whose it is
//! (ADR-019). Not responsible for: what others keep in it.

mod error;
mod legacy;
mod others;
mod place;
mod record;
mod settle;

pub use error::StateError;
pub use legacy::tell_ignored;
pub use others::{Other, others, remove_gone};
pub use place::State;
pub use settle::settle;
