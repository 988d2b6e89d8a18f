//! The use of it all: opening a project, planning, executing, recovering. Not responsible for: arguments, printing, exit
//! codes.

pub mod config;
mod error;
pub mod execute;
pub mod images;
pub mod planning;
pub mod project;
pub mod recover;
pub mod runners;
mod schemas;

pub use error::{Error, ErrorKind, UsageError};
pub use schemas::schemas;

/// A runtime for a few questions.
pub fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::machine)
}
