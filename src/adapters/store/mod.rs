//! A project's persistent state: runs, journals, logs, build durations, and the pins of `lian.lock`. Not responsible
//! for: decisions; only the image store determines whether a layer is reused (ADR-003).

mod database;
mod dead_runs;
mod error;
mod lease_rows;
mod leases;
mod lock_file;
mod logs;
mod rows;
mod runs;
mod session;
mod witness;

pub use dead_runs::{InterruptedRun, Reached};
pub use error::StoreError;
pub use leases::{Known, OpenLease};
pub use lock_file::{change_lock, read_lock};
pub use logs::StepLogs;
pub use runs::{Store, fresh_run_id};
pub use session::{RentedFrom, RunRecorder, Tally};
