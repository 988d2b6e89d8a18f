//! Turns a catalog's files into a plan and its jobs. Not responsible for: deciding what is rebuilt (see
//! `domain::plan`), executing.

mod contexts;
pub mod forecast;
pub mod gives;
mod jobs;
pub mod pins;
pub mod platforms;
pub mod prepare;
pub mod prepared_plan;
pub mod preview;
pub mod secrets;
pub mod specs;
mod stored;
mod substituted;
pub mod survey;
pub mod target_platforms;
mod triggers;
