//! How a runner is reached. Not responsible for: renting it.

pub mod ssh;
