//! The service that leases runners over HTTP (`/api/v1/vm-pool`), from any `ComputeProvider`. Not responsible for:
//! specific clouds (`ComputeProvider`); TLS (a reverse proxy).

mod connections;
mod desk;
mod error;
mod health;
mod http;
mod ledger;
#[cfg(test)]
mod load_tests;
mod log;
mod machine;
mod metrics;
mod openapi;
mod pool;
mod problem;
mod provider_calls;
mod recovery;
mod request;
mod service;
mod slots;
#[cfg(test)]
pub(crate) mod stub_tests;
mod tokens;

pub use error::ServeError;
pub use pool::Bounds;
pub use request::is_name;
pub use service::{Service, listen};
pub use tokens::{Tokens, hash_token};

#[cfg(test)]
mod tests;
