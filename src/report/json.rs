//! Writes JSON for programs, events as JSON lines. Not responsible for: where they go, and what it means if that fails.

use std::time::Duration;

use crate::domain::base::harmless_json;
use crate::domain::model::Event;
use crate::domain::ports::Sink;

/// The name of the sink.
pub const JSON: &str = "json";

/// A JSON value as a line may hold it: with the same meaning, and no character that commands a terminal or a CI.
pub fn json_text(value: &serde_json::Value) -> String {
    harmless_json(&value.to_string())
}

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
        let event = serde_json::to_string(event).expect("invariant: events are plain data");
        let mut line = harmless_json(&event);
        line.push('\n');
        (self.write)(&line);
    }

    fn close(&mut self, _: Duration) {}
}
