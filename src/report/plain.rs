//! Progress without a terminal: one line per step that begins or ends. Not responsible for: moving the cursor.

use std::time::Duration;

use super::progress::{Progress, TERMINAL};
use super::style::{say, whisper};
use crate::domain::model::{Event, EventBody};
use crate::domain::ports::Sink;

/// A sink that writes progress lines to standard error and the result to standard output.
pub struct Plain {
    progress: Progress,
}

impl Plain {
    /// A sink for a new run.
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
