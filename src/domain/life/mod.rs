//! The state machine of a run: inputs go in, effects come out, and nothing else happens. Not responsible for: clocks,
//! tasks and files. The dispatcher (`app::execute`) performs the effects and returns their results as inputs.
//!
//! `properties.rs` states what must always hold.

mod bill;
mod claiming;
mod effect;
mod ending;
#[cfg(test)]
mod examples;
mod giving_back;
mod input;
mod lease;
mod leasing;
mod limits;
#[cfg(test)]
mod pieces;
#[cfg(test)]
mod played;
#[cfg(test)]
mod properties;
mod run;
mod step;
#[cfg(test)]
mod world;

pub use effect::{Effect, Timer};
pub use input::{Input, StopLevel};
pub use lease::LeaseState;
pub use limits::Limits;
pub use run::Run;
pub use step::{Placement, StepSpec, StepState};

/// How often a step may be retried on a larger runner after it ran out of memory (ADR-039).
pub const MAX_OOM_RETRIES: u32 = 1;
