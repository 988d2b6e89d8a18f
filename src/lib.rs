//! lian-build: compiles a catalog of container-image layers written in Nickel into a checked graph and builds it with
//! BuildKit. The library holds every room of the house; `main.rs` only calls [`cli::run`].
//!
//! Rooms import from lower floors only (see `ARCHITECTURE.md`; `tests/it/house.rs` holds it).

pub mod base;
pub mod buildkit;
pub mod cli;
pub mod context;
pub mod dockerfile;
pub mod drive;
pub mod graph;
pub mod life;
pub mod model;
pub mod nickel;
pub mod plan;
pub mod ports;
pub mod providers;
pub mod registries;
pub mod remote;
pub mod report;
pub mod serve;
pub mod sizing;
pub mod store;
