//! Floor 5: where runners come from. Refuses: what is done on them.

mod address;
mod clock;
mod docker;
pub mod hcloud;
mod keys;
mod local;
pub mod proxmox;
mod ssh;
mod vm_pool;
mod vm_pool_answers;

pub use docker::{Container, Docker, Inside};
pub use local::{Local, machine};
pub use ssh::{Ssh, Vacancy, Vacant};
pub use vm_pool::{PoolToken, VmPool};
