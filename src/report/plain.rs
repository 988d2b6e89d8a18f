//! Progress without a terminal: one line per step that begins or ends. Not responsible for: moving the cursor.

use std::time::Duration;

use super::progress::{Progress, TERMINAL};
use super::style::whisper;
use crate::domain::model::{Event, EventBody};
use crate::domain::ports::Sink;

/// A sink that writes progress lines to standard error and hands the result on.
pub struct Plain {
    progress: Progress,
    out: fn(&str),
}

impl Plain {
    /// A sink for a new run. `out` writes the result.
    pub fn new(progress: Progress, out: fn(&str)) -> Self {
        Self { progress, out }
    }
}

impl Sink for Plain {
    fn name(&self) -> &'static str {
        TERMINAL
    }

    fn event(&mut self, event: &Event) {
        let said = self.progress.take(event);
        if let (EventBody::StepStarted { layer, .. }, false) = (&event.body, self.progress.look.quiet) {
            whisper(&format!("· {layer}\n"));
        }
        said.aside.iter().for_each(|line| whisper(&format!("{line}\n")));
        said.result.iter().for_each(|line| (self.out)(&format!("{line}\n")));
    }

    fn close(&mut self, _: Duration) {}
}
