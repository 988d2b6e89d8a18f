//! A runner over any transport: waits until it is ready, holds it with a lock and a heartbeat, reads counters, writes
//! files, cleans up. Not responsible for: the transport (`adapters::transport`), and what is built.

mod counters;
mod files;
mod fitness;
mod hold;
mod layout;
mod readiness;
mod remote_runner;
#[cfg(test)]
mod tests;

pub use fitness::fit;
pub use hold::held;
pub use layout::{DISK, PRIVATE, WORKSPACE};
pub use remote_runner::RemoteRunner;
