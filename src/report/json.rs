//! Writes events as JSON lines to standard output. Not responsible for: other output on that stream.

use std::io::Write as _;
use std::time::Duration;

use crate::domain::model::Event;
use crate::domain::ports::Sink;

struct Json;

/// A sink that writes each event as a line of JSON and flushes it.
pub fn json_events() -> Box<dyn Sink> {
    Box::new(Json)
}

impl Sink for Json {
    fn name(&self) -> &'static str {
        "json"
    }

    fn event(&mut self, event: &Event) {
        let mut line = serde_json::to_string(event).expect("invariant: events are plain data");
        line.push('\n');
        let mut stdout = std::io::stdout().lock();
        // A closed pipe does not stop a build: the exit code reports its outcome.
        let _ = stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush());
    }

    fn close(&mut self, _: Duration) {}
}
