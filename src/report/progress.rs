//! Turns each event of a run into progress lines. Not responsible for: the terminal (`live`, `plain`).

use std::collections::BTreeMap;
use std::time::Duration;

use super::lines::{again, brief, end_line, name_width, stop_line, stuck_help, summary};
use super::run_view::{RunView, is_numbered};
use super::style::Style;
use super::text::{count, cut, pad, shown};
use crate::domain::base::{LayerName, Timestamp, human_duration, output_line};
use crate::domain::model::{BuildEvent, Event, EventBody, Plan, RunOutcome, VertexState};

/// Largest unfinished line kept, in bytes: a step that never ends a line must not exhaust memory.
const PARTIAL: usize = 16 * 1024;

/// Name of the sinks that show progress.
pub const TERMINAL: &str = "terminal";

/// How much to show, and how.
#[derive(Debug, Clone, Copy)]
pub struct ProgressOptions {
    /// Style of the progress stream (standard error).
    pub style: Style,
    /// Show only failures and the result.
    pub quiet: bool,
    /// 1: every step of every layer. 2: also the output of the steps.
    pub verbose: u8,
    /// Number of layers built in parallel.
    pub width: usize,
    /// When the command began: the result tells the time since then.
    pub began: Option<Timestamp>,
}

/// Lines to print for an event.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ProgressLines {
    /// Progress, for standard error.
    pub aside: Vec<String>,
    /// The result, for standard output.
    pub result: Vec<String>,
}

/// State shared by the `live` and `plain` sinks.
pub struct Progress {
    pub board: RunView,
    pub look: ProgressOptions,
    names: usize,
    partial: BTreeMap<String, String>,
}

impl Progress {
    /// State of a plan before its first event.
    pub fn new(plan: &Plan, look: ProgressOptions) -> Self {
        let mut board = RunView::new(plan.clone(), look.width);
        board.began = look.began;
        let names = name_width(&board, look.style.width);
        Self { board, look, names, partial: BTreeMap::new() }
    }

    /// Applies an event; returns the permanent lines to print.
    pub fn take(&mut self, event: &Event) -> ProgressLines {
        self.board.take(event);
        let style = self.look.style;
        let loud = !self.look.quiet;
        let mut said = ProgressLines::default();
        match &event.body {
            EventBody::StepProgress { layer, progress } if loud => said.aside = self.progress(layer, progress),
            EventBody::StepRetried { layer, fault, runner_type } if loud => {
                let from = self.board.earlier(layer).last().and_then(|earlier| earlier.runner.as_deref());
                said.aside.push(format!(
                    "{} {}  {}",
                    style.notable("↻"),
                    self.name(layer),
                    again(fault, from, runner_type)
                ));
            }
            EventBody::StepFinished(end) => {
                // Discard unfinished lines: this step writes no more.
                let own = format!("{}\n", end.layer);
                self.partial.retain(|key, _| !key.starts_with(&own));
                if loud || end.fault.is_some() {
                    said.aside.extend(end_line(end, self.names, style));
                }
            }
            EventBody::LeaseStuck { lease, message } => {
                let message = shown(message.trim_end());
                said.aside.push(format!("{} lease {lease} could not be given back: {message}", style.bad("✗")));
                said.aside.push(format!("  {}", stuck_help(style)));
            }
            EventBody::EventsDropped { count: dropped } if loud => {
                let reports = count(usize::try_from(*dropped).unwrap_or(usize::MAX), "report");
                said.aside.push(style.dim(&format!("… {reports} left out: the terminal could not keep up")));
            }
            EventBody::RunStopping { hard } => said.aside.push(stop_line(*hard, style)),
            EventBody::RunFinished { outcome, built, reused, failed, skipped }
                if loud || *outcome != RunOutcome::Success =>
            {
                let counts = [*built, *reused, *failed, *skipped];
                said.result = summary(&self.board, &event.run, event.at, *outcome, counts, style);
            }
            _ => {}
        }
        said
    }

    fn name(&self, layer: &LayerName) -> String {
        pad(&shown(layer.as_str()), self.names)
    }

    fn progress(&mut self, layer: &LayerName, progress: &BuildEvent) -> Vec<String> {
        let (style, verbose, name) = (self.look.style, self.look.verbose, self.name(layer));
        match progress {
            BuildEvent::Warning { message } => {
                vec![format!("{} {name}  {}", style.notable("!"), shown(message.trim_end()))]
            }
            BuildEvent::Vertex { name: step, state, duration_ms, .. }
                if verbose > 1 || (verbose == 1 && is_numbered(step)) =>
            {
                let took = human_duration(Duration::from_millis(duration_ms.unwrap_or(0)));
                let short = shown(step.split_inclusive(']').next().unwrap_or(step));
                let room = if style.live { style.width.saturating_sub(self.names + 12) } else { usize::MAX };
                let step = cut(&brief(step), room);
                match state {
                    VertexState::Started => vec![format!("  {name}  {step}")],
                    VertexState::Cached => vec![format!("  {name}  {step} {}", style.dim("cached"))],
                    VertexState::Completed => vec![style.dim(&format!("  {name}  {short} done in {took}"))],
                    VertexState::Failed => Vec::new(),
                }
            }
            BuildEvent::Log { vertex, text } if verbose > 1 => {
                let lines = self.whole_lines(format!("{layer}\n{vertex}"), text);
                lines
                    .iter()
                    .map(|line| format!("  {name}  {} {}", style.dim("│"), output_line(line, style.colour)))
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    /// The lines that a piece of a log completes; an unfinished line waits for the next piece.
    fn whole_lines(&mut self, key: String, text: &str) -> Vec<String> {
        let mut pending = self.partial.remove(&key).unwrap_or_default();
        pending.push_str(text);
        let mut lines: Vec<String> = pending.split_inclusive('\n').map(str::to_owned).collect();
        if let Some(rest) = lines.pop_if(|last| !last.ends_with('\n') && last.len() < PARTIAL) {
            self.partial.insert(key, rest);
        }
        lines
    }
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
