//! Image stores: an OCI image layout on this machine or a registry; also resolves tags at registries. Not responsible
//! for: building images.

mod archive;
mod blocking;
#[cfg(test)]
mod bytes_tests;
mod checked;
mod claim;
mod client;
mod collect;
mod credentials;
mod files;
mod index;
mod layout;
mod layout_store;
mod marks;
mod parts;
mod promote;
mod remote;
mod resolve;
mod reuse;
mod staging;
mod substitute;

pub use archive::{Archive, ArchiveStop};
pub use collect::{Collected, KeepPolicy};
pub use credentials::{may_have_login, scoped_config};
pub use layout::{LayoutInUse, Listed, OciLayout};
pub use remote::{Address, AddressError, Registry};
pub use resolve::{ResolveError, Resolver};
pub use substitute::{Substitute, SubstituteError, layout_digest};
