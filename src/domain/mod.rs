//! The pure core: what a catalog means, what must be built, and how a run proceeds. Times and seeds are arguments. Not
//! responsible for: side effects. It uses no tokio, files, environment, clock, randomness or printing.

pub mod base;
pub mod cache;
pub mod dockerfile;
pub mod graph;
pub mod life;
pub mod model;
pub mod plan;
pub mod ports;
pub mod sizing;
