//! The service that leases runners to others over HTTP (`/api/v1/vm-pool`). Not responsible for: knowing a cloud: it leases
//! what any `ComputeProvider` has; and TLS, which is a proxy's job in front of it.

mod connections;
mod error;
mod http;
mod ledger;
mod machine;
mod metrics;
mod openapi;
mod pool;
mod problem;
mod recovery;
mod request;
mod service;
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
