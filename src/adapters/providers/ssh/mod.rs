//! Leases runners from a fixed list of hosts by taking a local lock. Each host holds a second lock against other
//! machines, which is checked before the lease is granted. Not responsible for: preparing hosts.

mod descriptor;
mod health;
mod hosts;
mod local_lock;
mod settings;
mod waiting;

pub use descriptor::DESCRIPTOR;
pub use hosts::Ssh;
pub use settings::{SshHost, SshSettings};
