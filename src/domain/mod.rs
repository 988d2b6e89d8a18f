//! The pure heart: what a catalog means, what must be built, and how a run goes on. Time and seeds are arguments.
//! Not responsible for: doing anything. No tokio, files, environment, clock, randomness or printing here.

pub mod base;
pub mod dockerfile;
pub mod graph;
pub mod life;
pub mod model;
pub mod plan;
pub mod ports;
pub mod sizing;
