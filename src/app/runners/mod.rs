//! Puts providers, connections and BuildKit together: what a run needs to rent runners and to reach them. Not responsible
//! for: the insides of any of them.

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
