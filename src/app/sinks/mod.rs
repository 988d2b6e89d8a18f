//! One emitter, many sinks: every event of a run is emitted once and reaches each sink through a bounded queue, on a thread of
//! the sink's own. A sink that fails, hangs or is absent never fails, blocks or slows a build. Not responsible for: what a
//! sink does with an event (see the implementations of `ports::Sink` in `report` and the adapters).

mod emitter;
mod queue;

pub use emitter::{Emitter, LeftBehind, Sinks};
