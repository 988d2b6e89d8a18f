//! Progress for somebody who looks on: a line for each running layer, finished ones above. Refuses: streams that are no
//! terminal.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::progress::Progress;
use super::style::{cut, say};
use crate::base::LayerName;
use crate::model::{Event, EventBody};
use crate::ports::Observer;

/// How often spinners turn.
const TICK: Duration = Duration::from_millis(120);

/// Draws on the terminal of standard error; the result goes to standard output.
pub struct Live {
    state: Progress,
    screen: MultiProgress,
    bars: BTreeMap<LayerName, ProgressBar>,
    status: ProgressBar,
}

impl Live {
    /// Over a fresh state.
    pub fn new(state: Progress) -> Self {
        let screen = MultiProgress::new();
        let status = screen.add(ProgressBar::new_spinner());
        status.set_style(ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
        Self { state, screen, bars: BTreeMap::new(), status }
    }

    fn bar(&mut self, layer: &LayerName) -> &ProgressBar {
        let (screen, status, width) = (&self.screen, &self.status, self.state.name_width);
        self.bars.entry(layer.clone()).or_insert_with(|| {
            let bar = screen.insert_before(status, ProgressBar::new_spinner());
            let template = format!("{{spinner}} {{prefix:<{width}}}  {{elapsed:>6}}   {{wide_msg}}");
            let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_spinner());
            bar.set_style(style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ "));
            bar.set_prefix(layer.to_string());
            bar.enable_steady_tick(TICK);
            bar
        })
    }
}

impl Observer for Live {
    fn event(&mut self, event: &Event) {
        let lines = self.state.take(event);
        if let EventBody::RunFinished { .. } = &event.body {
            for bar in std::mem::take(&mut self.bars).into_values() {
                bar.finish_and_clear();
            }
            self.status.finish_and_clear();
            for line in lines {
                say(&line);
            }
            return;
        }
        if let EventBody::StepFinished(end) = &event.body
            && let Some(bar) = self.bars.remove(&end.layer)
        {
            bar.finish_and_clear();
        }
        for line in lines {
            // A terminal that went away is nobody's loss: the build goes on.
            let _ = self.screen.println(line);
        }
        if let EventBody::StepPhase { layer, .. } | EventBody::StepProgress { layer, .. } = &event.body
            && let Some(running) = self.state.running.get(layer)
        {
            let message = running.step.clone().unwrap_or_else(|| running.phase.clone());
            let columns = self.state.style.width.saturating_sub(self.state.name_width + 14);
            self.bar(&layer.clone()).set_message(cut(&message, columns));
        }
        self.status.set_message(self.state.status(event.at));
    }
}
