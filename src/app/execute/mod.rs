//! The dispatcher, the only code that mutates a [`crate::domain::life::Run`]: it performs the run's effects through
//! `ports` and reports the results back. Not responsible for: deciding anything.

mod dispatcher;
mod effects;
mod faults;
mod job;
mod ledger;
mod mask;
mod measure;
mod spellings;
mod task_context;
#[cfg(test)]
pub(super) mod test_kit;
#[cfg(test)]
mod tests;

pub use dispatcher::{Finished, RunServices, Work, execute};
pub use job::{Job, ParentImage, StoredImage, stored_image};
