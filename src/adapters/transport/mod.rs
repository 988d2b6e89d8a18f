//! How a runner is reached: one trait, and a module for each way (SSH, the exec of a container). Not responsible for: renting
//! runners, and what is done on them.
//!
//! A new way, such as the exec of a Kubernetes pod, is one more module here that implements [`Transport`], and one arm in
//! `app::runners::connector`.

mod contract;
pub mod docker;
pub mod ssh;

pub use contract::{Environment, Problem, Progress, Transport};
