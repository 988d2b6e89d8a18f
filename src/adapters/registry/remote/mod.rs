//! An OCI registry, by its address, as an image store. Not responsible for: requests (see `client`), and collecting, which is the
//! registry's own business.

mod address;
mod promote;
mod store;

pub use address::{Address, AddressError};
pub use store::Registry;
