//! What touches the world, one module per thing. Siblings never import each other. Not responsible for: deciding.

pub mod buildkit;
pub mod context;
pub mod docker_cli;
pub mod engine;
pub mod nickel;
pub mod providers;
pub mod registry;
pub mod runner;
pub mod store;
pub mod transport;
