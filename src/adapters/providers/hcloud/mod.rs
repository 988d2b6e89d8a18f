//! Servers of a Hetzner Cloud project: one a lease, found again by its name, known as ours by its labels. Not responsible for: touching
//! anything that does not carry all our labels.

mod access;
mod api;
mod boot;
mod create;
mod descriptor;
mod error;
mod model;
mod names;
mod offers;
mod project;
mod release;
mod settings;

pub use access::Access;
pub use api::Timeouts;
pub use descriptor::DESCRIPTOR;
pub use project::Hcloud;
pub use settings::{BuildkitRelease, HcloudSettings};
