//! The service that leases runners over HTTP (`/api/v1/vm-pool`), from any `ComputeProvider`. Not responsible for:
//! specific clouds (`ComputeProvider`); TLS (a reverse proxy).

mod clock;
mod connections;
mod desk;
mod document;
mod error;
mod fields;
mod guard;
mod health;
#[cfg(test)]
mod hosts_tests;
mod http;
mod json;
mod keys;
mod ledger;
mod listener;
#[cfg(test)]
mod load_tests;
mod log;
mod machine;
mod metrics;
mod parameters;
mod pool;
mod problem;
mod provider_calls;
mod recovery;
mod request;
mod seats;
mod service;
mod slots;
#[cfg(test)]
pub(crate) mod stub_tests;
mod tokens;
mod views;
mod wire;

pub use error::ServeError;
pub use fields::is_name;
pub use listener::{Listen, listen};
pub use pool::Bounds;
pub use service::Service;
pub use tokens::{Tokens, hash_token};

#[cfg(test)]
mod tests;
