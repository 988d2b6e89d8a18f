//! Combines providers, connections and BuildKit into what a run needs to acquire and reach runners. Not responsible
//! for: their implementation.

pub mod connect_options;
pub mod connector;
mod host_probe;
pub mod limits;
mod local_runner;
mod on_demand;
mod prices;
pub mod provider_context;
mod provider_options;
pub mod provider_record;
mod remote_build_runner;
pub mod stand_in;
