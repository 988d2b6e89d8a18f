//! Progress where nobody looks on: a line for what begins and ends. Not responsible for: moving the cursor.

use std::time::Duration;

use super::progress::{Progress, TERMINAL};
use super::style::{say, whisper};
use crate::domain::model::{Event, EventBody};
use crate::domain::ports::Sink;

/// Writes plain lines to standard error, the last ones (the result) to standard output.
pub struct Plain {
    progress: Progress,
}

impl Plain {
    /// Over a fresh state.
    pub fn new(progress: Progress) -> Self {
        Self { progress }
    }
}

impl Sink for Plain {
    fn name(&self) -> &'static str {
        TERMINAL
    }

    fn event(&mut self, event: &Event) {
        let said = self.progress.take(event);
        if let (EventBody::StepStarted { layer, .. }, false) = (&event.body, self.progress.look.quiet) {
            whisper(&format!("· {layer}"));
        }
        said.aside.iter().for_each(|line| whisper(line));
        said.result.iter().for_each(|line| say(line));
    }

    fn close(&mut self, _: Duration) {}
}
