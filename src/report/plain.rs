//! Progress where nobody looks on: a line for what begins and ends. Refuses: moving the cursor.

use super::progress::{Look, Progress};
use super::style::{clean, say, whisper};
use crate::model::{BuildEvent, Event, EventBody, Outcome, RunOutcome, VertexState};
use crate::ports::Observer;

/// Writes plain lines to standard error, the last one (the result) to standard output.
pub struct Plain {
    state: Progress,
    look: Look,
}

impl Plain {
    /// Over a fresh state.
    pub fn new(state: Progress, look: Look) -> Self {
        Self { state, look }
    }
}

impl Observer for Plain {
    fn event(&mut self, event: &Event) {
        let lines = self.state.take(event);
        if let EventBody::RunFinished { outcome, .. } = &event.body {
            if !self.look.quiet || *outcome != RunOutcome::Success {
                for line in lines {
                    say(&line);
                }
            }
            return;
        }
        let failed = matches!(&event.body, EventBody::StepFinished(end) if end.outcome == Outcome::Failed);
        if self.look.quiet && !failed {
            return;
        }
        for line in lines {
            whisper(&line);
        }
        match &event.body {
            EventBody::StepStarted { layer, .. } => whisper(&format!("· {layer}")),
            EventBody::StepProgress { layer, progress } if self.look.verbose => match progress {
                BuildEvent::Vertex { name, state: VertexState::Started, .. } => {
                    whisper(&format!("  {layer}  {}", clean(name)))
                }
                BuildEvent::Vertex { name, state: VertexState::Cached, .. } => {
                    whisper(&format!("  {layer}  {} (cached)", clean(name)))
                }
                BuildEvent::Log { text, .. } => {
                    for line in text.lines() {
                        whisper(&format!("  {layer}  | {}", clean(line)));
                    }
                }
                _ => {}
            },
            _ => {}
        }
    }
}
