//! A runner over SSH. One master connection a runner, as a child that dies with this process: no link outlives
//! its run. Not responsible for: renting runners, and knowing what is built on them.

mod guard;
mod link;
mod master;
mod ready;
mod transfer;
mod usage;

pub use link::{DISK, Link, PRIVATE, Ran, WORKSPACE};
pub use ready::{DAEMON_SOCKET, READY_FILE};
