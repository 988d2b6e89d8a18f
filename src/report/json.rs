//! Writes events as JSON lines. Not responsible for: where they go, and what it means if that fails.

use std::time::Duration;

use crate::domain::model::Event;
use crate::domain::ports::Sink;

/// The name of the sink.
pub const JSON: &str = "json";

struct Json {
    write: fn(&str),
}

/// A sink that hands each event to `write` as a line of JSON.
pub fn json_events(write: fn(&str)) -> Box<dyn Sink> {
    Box::new(Json { write })
}

impl Sink for Json {
    fn name(&self) -> &'static str {
        JSON
    }

    fn event(&mut self, event: &Event) {
        let mut line = serde_json::to_string(event).expect("invariant: events are plain data");
        line.push('\n');
        (self.write)(&line);
    }

    fn close(&mut self, _: Duration) {}
}
