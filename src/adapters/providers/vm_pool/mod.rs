//! Leases runners from a service (`lian-build serve`) over HTTP. Not responsible for: which providers the service
//! uses.

mod answers;
mod client;
mod descriptor;
mod renewal;
mod service;
mod settings;
mod token;

pub use client::VmPool;
pub use descriptor::DESCRIPTOR;
pub use settings::VmPoolSettings;
pub use token::PoolToken;
