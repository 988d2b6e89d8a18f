//! Whoever is told of a run's events: logs, a terminal, a program. Not responsible for: queues and threads (see `app::sinks`).

use std::time::Duration;

use crate::domain::model::Event;

/// Takes the events of a run. It lives on a thread of its own: it may block, hang or panic without any harm to the run.
pub trait Sink: Send {
    /// What messages about it call it, e.g. `json`.
    fn name(&self) -> &'static str;

    /// Takes the next event. State events come in order and are never left out. Where progress events had to be left out,
    /// [`crate::domain::model::EventBody::EventsDropped`] stands in their place.
    fn event(&mut self, event: &Event);

    /// Called once, after the last event: flush what is held. A sink that takes longer than `patience` is left behind.
    fn close(&mut self, patience: Duration);
}
