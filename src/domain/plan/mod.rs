//! Decides what to build, why, and in which order. Not responsible for: looking anything up; candidates hold everything
//! that is known about them.

mod candidate;
mod decide;
mod why;

pub use candidate::Candidate;
pub use decide::plan;
pub use why::differences;
