//! The interfaces between the core and everything that touches the outside world. Not responsible for: implementing
//! them.

mod build;
mod compute;
#[cfg(test)]
pub mod fakes;
mod holder;
mod image;
mod images;
mod inputs;
mod journal;
mod record;
#[cfg(test)]
pub mod samples;
mod sink;
mod usage;

pub use crate::domain::model::{Offer, Price};
pub use build::{
    BuildRequest, BuildSink, Builder, Built, CACHE, NEXT_CACHE, NamedContext, STEP_LOGS, SecretSource, SecretValue,
    SharedCaches, VerifyRequest,
};
pub use compute::{
    AcquireRequest, ComputeProvider, Counters, Endpoint, Gone, Lease, OwnedLease, OwnedLeases, Runner, RunnerConnector,
    SshTarget,
};
pub use holder::{Held, Holder};
pub use image::{ImageConfig, ImageSource, PushTarget};
pub use images::{Claim, Found, ImageStore, ImageStoreError, InUse, Staged, StagedAt, StagingFolder};
pub use inputs::{ContextError, ContextReader, Definition, Modes, OWN};
pub use journal::{BuildRecord, Journal, JournalError, JournalKind, LeaseMark};
pub use record::{LeaseRecord, RecordKeeper, Resource};
pub use sink::Sink;
pub use usage::{Meter, Usage, usage_script};
