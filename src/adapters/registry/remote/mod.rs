//! An OCI registry as an image store. Not responsible for: requests (see `client`), and garbage collection, which the
//! registry does.

mod address;
mod fetch;
mod promote;
mod store;

pub use address::{Address, AddressError};
pub use store::Registry;
