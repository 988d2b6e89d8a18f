//! A runner over SSH. Each runner has one master connection, a child that dies with this process: no connection outlives its
//! run. Not responsible for: renting runners, and what is done on them.

mod connection;
mod faults;
mod master;
mod rsync;
mod transport;

pub use connection::SshConnection;
