//! Reads build contexts from disk as BuildKit would see them: through the ignore file, by content, kind and
//! mode. Not responsible for: times, owners, and anything outside the project.

mod files;
mod hash;
mod ignore;
mod pattern;
mod recipe;
mod recipe_lock;
mod recipe_manifest;
#[cfg(test)]
mod recipe_tests;
#[cfg(test)]
mod tests;
mod walk;

pub use files::{Located, check_files, locate};
pub use ignore::{Ignore, Inherited};
pub use recipe::stale_recipe;
pub use walk::{Reader, raw_name};
