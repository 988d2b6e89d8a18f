//! A runner over SSH. Each runner has one master connection, a child that ends with this process, so no connection
//! outlives its run. Not responsible for: renting runners, and what runs on them.

mod connection;
mod faults;
mod master;
mod route;
mod rsync;
mod script;
mod transport;

pub use connection::SshConnection;
