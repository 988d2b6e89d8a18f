//! lian-build: compiles a catalog of container-image layers written in Nickel into a checked graph and builds it with
//! BuildKit. The library holds every module; `main.rs` only calls [`cli::run`].
//!
//! Modules import downward only (see `ARCHITECTURE.md`; `tests/it/architecture.rs` holds it).

pub mod adapters;
pub mod app;
pub mod cli;
pub mod domain;
pub mod report;
pub mod serve;
pub mod system;
