//! Floor 5: where runners come from. Refuses: what is done on them.

mod address;
mod clock;
pub mod hcloud;
mod keys;
mod local;
pub mod proxmox;
mod ssh;
mod vm_pool;

pub use local::{Local, machine};
pub use ssh::Ssh;
pub use vm_pool::{PoolToken, VmPool};
