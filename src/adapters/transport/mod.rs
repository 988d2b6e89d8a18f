//! Transports to runners: one trait, and one module per transport (SSH, container exec). Not responsible for: renting
//! runners, and what runs on them.
//!
//! To add a transport, such as Kubernetes pod exec, add a module that implements [`Transport`] and an arm in
//! `app::runners::connector`.

mod contract;
pub mod docker;
pub mod ssh;

pub use contract::{Environment, Problem, Progress, Readiness, Transport};
