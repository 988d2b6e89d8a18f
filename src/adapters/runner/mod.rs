//! A runner over any transport: waiting until it can build, holding it under a lock and a heartbeat, reading its counters,
//! putting files there, cleaning. Not responsible for: how it is reached (`adapters::transport`), and what is built on it.

mod counters;
mod files;
mod hold;
mod layout;
mod readiness;
mod remote_runner;
#[cfg(test)]
mod tests;

pub use hold::is_held;
pub use layout::{DISK, PRIVATE, WORKSPACE};
pub use remote_runner::RemoteRunner;
