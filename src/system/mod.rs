//! System helpers that several adapters share. Not responsible for: layers, runners, or anything else of the domain.

pub mod bug;
mod clock;
pub mod confined;
mod data_folder;
pub mod environment;
pub mod error_chain;
pub mod exec;
pub mod files;
pub mod git_index;
mod host;
pub mod http;
pub mod http2;
pub mod lock;
pub mod oci;
mod patient;
pub mod peer;
pub mod process;
pub mod read;
pub mod retry;
mod roots;
pub mod scratch;
pub mod shell;
pub mod sqlite;
pub mod stop;
pub mod user_key;
pub mod watch;
pub mod words;

pub use clock::{RemoteClock, RemoteTime, boot_id, now, since_epoch, uptime};
pub use data_folder::{DataFolderError, data_folder};
pub use host::{allow_open_files, host_platform, whoami};
pub use patient::Patient;
pub use roots::{catalog_root, git_root, resolved};
