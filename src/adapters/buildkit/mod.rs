//! BuildKit: finds its programs, keeps one daemon per user, runs `buildctl` for each request, and turns its output into
//! events and faults. Not responsible for: deciding what to build, and where an image goes afterwards.

mod argv;
mod artifacts;
mod binaries;
mod buildctl;
mod classify;
mod config;
mod counters;
mod daemon;
mod definition;
mod disk;
mod emulation;
mod error;
mod finding;
mod image;
mod network;
mod network_leftovers;
mod own_build;
mod policy;
mod probe;
mod progress;
mod remote_buildctl;
mod scratch;
mod search;
mod signs;
mod solve;
mod supervise;
mod tail;
mod verify;
mod version;

pub use binaries::Binaries;
pub use buildctl::Buildctl;
pub use classify::{Failure, OomEvidence, VertexFailure, classify};
pub use config::DaemonConfig;
pub use counters::HostCounters;
pub use daemon::{Daemon, Status};
pub use disk::DiskUse;
pub use emulation::{other_platform, others_only};
pub use error::BuildkitError;
pub use network::{Network, REACH, Shared};
pub use remote_buildctl::{RemoteBuildctl, on_runner};
pub use supervise::{SUPERVISE_COMMAND, supervise};
