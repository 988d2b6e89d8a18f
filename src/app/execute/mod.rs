//! The dispatcher. It alone mutates a [`crate::domain::life::Run`]: it performs the run's effects through `ports` and
//! feeds back what came of them. Not responsible for: deciding anything.

mod dispatch;
mod job;
mod mask;
mod measure;
mod tasks;
#[cfg(test)]
mod tests;

pub use dispatch::{Finished, RunServices, drive};
pub use job::{Job, ParentImage};
