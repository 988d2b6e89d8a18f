//! Floor 5: where runners come from. Refuses: what is done on them.

pub mod hcloud;
mod keys;
mod local;
pub mod proxmox;
mod ssh;

pub use local::{Local, machine};
pub use ssh::Ssh;
