//! Reads build contexts from disk as BuildKit sees them: filtered by the ignore file, and compared by content, kind and
//! mode. Times, owners and anything outside the project do not count.

mod apart;
mod bounds;
#[cfg(test)]
mod bytes_tests;
mod check_ignore;
mod effort;
mod files;
mod hash;
mod ignore;
mod names;
mod odd;
mod pattern;
mod progress;
mod recipe;
mod recipe_lock;
mod recipe_manifest;
#[cfg(test)]
mod recipe_tests;
#[cfg(test)]
mod tests;
mod walk;

pub use apart::told_apart;
pub use check_ignore::{ignore_fault, ignored_copies};
pub use effort::{Effort, TooMuch};
pub use files::{Located, locate};
pub use ignore::{Ignore, Inherited};
pub use names::raw_name;
pub use odd::check_files;
pub use recipe::stale_recipe;
pub use walk::Reader;
