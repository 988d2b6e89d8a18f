//! What to build, why, and in which order. Not responsible for: looking anything up; candidates come with all that is
//! known of them.

mod candidate;
mod decide;
mod why;

pub use candidate::Candidate;
pub use decide::plan;
pub use why::differences;
