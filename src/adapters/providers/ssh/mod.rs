//! A fixed list of hosts: a lease is an exclusive lock on one, on this machine. The host itself keeps a second lock against
//! other machines: it is asked before it is leased. Not responsible for: making hosts ready.

mod descriptor;
mod hosts;
mod settings;

pub use descriptor::DESCRIPTOR;
pub use hosts::Ssh;
pub use settings::{SshHost, SshSettings};
