//! Events for programs: one a line on standard output. Not responsible for: anything else on that stream.

use std::io::Write as _;
use std::time::Duration;

use crate::domain::model::Event;
use crate::domain::ports::Sink;

struct Json;

/// Writes each event as a line of JSON, at once.
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
        // A reader that went away does not stop a build: its end is told by the exit code.
        let _ = stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush());
    }

    fn close(&mut self, _: Duration) {}
}
