//! The use cases: opening a project, planning, executing, recovering. Not responsible for: arguments, printing, exit
//! codes.

pub mod apply;
mod cache_scope;
pub mod config;
pub mod directives;
pub mod dispatch;
pub mod doctor;
mod error;
pub mod execute;
pub mod explain;
pub mod history;
pub mod images;
pub mod leases;
pub mod load;
pub mod planning;
pub mod project;
pub mod recover;
pub mod runners;
pub mod schemas;
pub mod session;
pub mod setting;
pub mod sinks;
pub mod state;
mod store_choice;
mod target_image;
pub mod tidy;
pub mod trust;
pub mod update;

pub use error::{Error, ErrorKind, UsageError};
