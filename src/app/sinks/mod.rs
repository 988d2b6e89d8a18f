//! Sends every event of a run to each sink through a bounded queue, on the sink's own thread. A sink that fails,
//! hangs or is absent never fails, blocks or slows a build. Not responsible for: what a sink does with an event (see
//! the implementations of `ports::Sink` in `report` and the adapters).

mod emitter;
mod queue;

pub use emitter::{Emitter, LITTLE_PATIENCE, LeftBehind, PATIENCE, Sinks};
