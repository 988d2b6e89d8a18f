//! The interface for receiving a run's events: logs, a terminal, a program. Not responsible for: queues and threads
//! (see `app::sinks`).

use std::time::Duration;

use crate::domain::model::Event;

/// Receives a run's events on its own thread: it may block, hang or panic without affecting the run.
pub trait Sink: Send {
    /// Its name in messages, e.g. `json`.
    fn name(&self) -> &'static str;

    /// Handles the next event. State events come in order and are never dropped.
    /// [`crate::domain::model::EventBody::EventsDropped`] takes the place of dropped progress events.
    fn event(&mut self, event: &Event);

    /// Called once, after the last event: flush buffered output. A sink that takes longer than `patience` is
    /// abandoned.
    fn close(&mut self, patience: Duration);
}
