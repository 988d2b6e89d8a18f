//! The state machine of a run. Inputs go in, effects come out; nothing else happens here. Not responsible for: clocks,
//! tasks, files: the dispatcher (`drive`) performs the effects and feeds back what came of them.
//!
//! What always holds is written down as properties in `properties.rs`.

mod bill;
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

/// How often a step may be tried again on a larger runner after it ran out of memory (ADR-039).
pub const MAX_OOM_RETRIES: u32 = 1;
