//! Floor 5: the dispatcher. It alone mutates a [`crate::domain::life::Run`]: it performs the run's effects through `ports` and
//! feeds back what came of them. Refuses: deciding anything.

mod dispatch;
mod job;
mod mask;
mod measure;
mod tasks;
#[cfg(test)]
mod tests;

pub use dispatch::{Finished, World, drive};
pub use job::{Job, ParentImage};
