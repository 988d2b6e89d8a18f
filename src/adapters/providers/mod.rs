//! Where runners come from. Not responsible for: what is done on them.

mod docker;
pub mod hcloud;
mod keys;
mod local;
pub mod proxmox;
mod ssh;
mod vm_pool;
mod vm_pool_answers;

pub use docker::{DaemonOptions, Docker};
pub use local::{Local, machine};
pub use ssh::{Availability, HostProbe, Ssh};
pub use vm_pool::{PoolToken, VmPool};
