//! Leases servers of a Hetzner Cloud project, one per lease, known by the id that the create's answer named, or else
//! found by name and labels. Not responsible for: objects that are neither known nor marked as a lease's (never touched).

mod access;
mod api;
mod boot;
#[cfg(test)]
mod bytes_tests;
mod create;
mod creation;
mod descriptor;
mod error;
mod model;
mod names;
mod offers;
mod owned;
mod project;
mod release;
mod settings;

pub use access::Access;
pub use api::Timeouts;
pub use descriptor::DESCRIPTOR;
pub use project::Hcloud;
pub use settings::{BuildkitRelease, HcloudSettings};
