//! Leases servers of a Hetzner Cloud project, one per lease, found by name and verified by labels. Not responsible
//! for: objects that lack any of our labels (never touched).

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
