//! What is known of a run while it goes on, and the lines that it ends in. Refuses: the terminal (see `live`, `plain`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::faults::{failure_block, step_line};
use super::live::Live;
use super::plain::Plain;
use super::style::{Style, clean, count};
use crate::base::{LayerName, RunId, Timestamp, human_duration};
use crate::model::{Action, BuildEvent, Event, EventBody, Outcome, Plan, StepEnd, VertexState};
use crate::ports::Observer;

/// How much is shown, and how.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Of the stream that progress goes to (standard error).
    pub style: Style,
    /// Only failures and what comes of them.
    pub quiet: bool,
    /// Every step of every layer.
    pub verbose: bool,
}

/// An observer for people: a live one on a terminal, plain lines elsewhere.
pub fn observer(plan: &Plan, look: Look) -> Box<dyn Observer> {
    let state = Progress::new(plan, look.style);
    if look.style.live && !look.quiet { Box::new(Live::new(state)) } else { Box::new(Plain::new(state, look)) }
}

/// A layer that is being built.
#[derive(Debug, Clone)]
pub struct Running {
    /// Since when.
    pub since: Timestamp,
    /// `leasing`, `building`, …
    pub phase: String,
    /// The Dockerfile step that started last and still runs.
    pub step: Option<String>,
}

/// The state that all observers for people share.
pub struct Progress {
    pub style: Style,
    pub name_width: usize,
    pub running: BTreeMap<LayerName, Running>,
    waiting: BTreeSet<LayerName>,
    estimates: BTreeMap<LayerName, u64>,
    skipped: BTreeMap<LayerName, Vec<LayerName>>,
    failed: Vec<StepEnd>,
    to_build: usize,
    done: usize,
    steps: u32,
    cached: u32,
    started: Option<Timestamp>,
}

impl Progress {
    /// Of a plan that is about to be carried out.
    pub fn new(plan: &Plan, style: Style) -> Self {
        let building = || plan.steps.iter().filter(|step| step.action == Action::Build);
        Self {
            style,
            name_width: building().map(|step| step.layer.as_str().len()).max().unwrap_or(0),
            running: BTreeMap::new(),
            waiting: building().map(|step| step.layer.clone()).collect(),
            estimates: building().filter_map(|step| Some((step.layer.clone(), step.estimate_ms?))).collect(),
            skipped: BTreeMap::new(),
            failed: Vec::new(),
            to_build: building().count(),
            done: 0,
            steps: 0,
            cached: 0,
            started: None,
        }
    }

    /// Takes an event; the lines to show for good.
    pub fn take(&mut self, event: &Event) -> Vec<String> {
        match &event.body {
            EventBody::RunStarted { .. } => {
                self.started = Some(event.at);
                Vec::new()
            }
            EventBody::StepPhase { layer, phase } => {
                self.waiting.remove(layer);
                let running = self.running.entry(layer.clone());
                let fresh = || Running { since: event.at, phase: String::new(), step: None };
                let running = running.or_insert_with(fresh);
                running.phase.clone_from(phase);
                running.step = None;
                Vec::new()
            }
            EventBody::StepProgress { layer, progress } => self.progress(layer, progress),
            EventBody::StepRetried { layer, fault, runner_type } => {
                vec![format!("{} {layer}   {}; trying again on {runner_type}", self.style.notable("↻"), fault.message)]
            }
            EventBody::StepFinished(end) => self.finished(end),
            EventBody::LeaseStuck { lease, message } => {
                vec![format!("{} lease {lease} could not be given back: {message}", self.style.bad("✗"))]
            }
            EventBody::RunFinished { built, reused, failed, skipped, .. } => {
                self.summary(&event.run, event.at, [*built, *reused, *failed, *skipped])
            }
            EventBody::StepStarted { .. } | EventBody::LeaseGranted { .. } | EventBody::LeaseReleased { .. } => {
                Vec::new()
            }
        }
    }

    fn progress(&mut self, layer: &LayerName, progress: &BuildEvent) -> Vec<String> {
        let Some(running) = self.running.get_mut(layer) else { return Vec::new() };
        match progress {
            BuildEvent::Vertex { name, state: VertexState::Started, .. } => {
                running.step = Some(clean(name));
                Vec::new()
            }
            BuildEvent::Warning { message } => {
                vec![format!("{} {layer}   {}", self.style.notable("!"), clean(message))]
            }
            _ => Vec::new(),
        }
    }

    fn finished(&mut self, end: &StepEnd) -> Vec<String> {
        self.running.remove(&end.layer);
        self.waiting.remove(&end.layer);
        match end.outcome {
            Outcome::Built => {
                self.done += 1;
                self.steps += end.steps;
                self.cached += end.cached;
            }
            Outcome::Failed => self.failed.push(end.clone()),
            Outcome::Skipped => {
                if let Some(because) = &end.because {
                    self.skipped.entry(because.clone()).or_default().push(end.layer.clone());
                }
            }
            Outcome::Reused | Outcome::Cancelled => {}
        }
        let failed =
            (end.outcome == Outcome::Failed).then(|| format!("{} {}   failed", self.style.bad("✗"), end.layer));
        step_line(end, self.name_width, self.style).or(failed).into_iter().collect()
    }

    fn summary(&self, run: &RunId, at: Timestamp, [built, reused, failed, skipped]: [usize; 4]) -> Vec<String> {
        let mut lines = Vec::new();
        for end in &self.failed {
            let skipped = self.skipped.get(&end.layer).map_or(&[][..], Vec::as_slice);
            lines.push(format!("\n{}", failure_block(run, end, skipped, self.style).trim_end()));
        }
        let took = self.started.map_or(Duration::ZERO, |started| at.since(started));
        let layers = count(built + reused + failed + skipped, "layer");
        if built + failed + skipped == 0 {
            lines.push(format!("{layers}: all reused, nothing to build · {}", human_duration(took)));
            return lines;
        }
        let named = [(built, "built"), (reused, "reused"), (failed, "failed"), (skipped, "skipped")];
        let parts: Vec<String> =
            named.iter().filter(|(number, _)| *number > 0).map(|(number, word)| format!("{number} {word}")).collect();
        let cached = match (self.cached, self.steps) {
            (0, _) => String::new(),
            (cached, steps) => format!(" · {cached} of {steps} steps cached"),
        };
        lines.push(format!("\n{layers}: {}{cached} · {} · run {run}", parts.join(", "), human_duration(took)));
        lines
    }

    /// `3 of 5 · about 3m left`.
    pub fn status(&self, now: Timestamp) -> String {
        let mut text = format!("{} of {}", self.done, self.to_build);
        let running = self.running.iter().map(|(layer, running)| {
            let known = self.estimates.get(layer).copied().unwrap_or(0);
            known.saturating_sub(u64::try_from(now.since(running.since).as_millis()).unwrap_or(u64::MAX))
        });
        let waiting = self.waiting.iter().filter_map(|layer| self.estimates.get(layer)).sum::<u64>();
        let left = running.max().unwrap_or(0).max(waiting / 2 + waiting % 2);
        if left > 0 {
            text.push_str(&format!(" · about {} left", human_duration(Duration::from_millis(left))));
        }
        if !self.waiting.is_empty() {
            text.push_str(&format!(" · {} waiting", self.waiting.len()));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::faults::tests::{end, failed};
    use super::super::plan::tests::example;
    use super::*;
    use crate::model::RunOutcome;

    fn event(at: u64, body: EventBody) -> Event {
        Event { at: Timestamp(at), run: RunId::from("7f3a9c21"), body }
    }

    #[test]
    fn a_run_is_told_from_its_first_step_to_its_last() {
        let mut progress = Progress::new(&example(), Style::PLAIN);
        let mut skipped = end("app", Outcome::Skipped);
        skipped.because = Some("rust-deps".into());
        let outcome = RunOutcome::Failure;
        let bodies = [
            EventBody::RunStarted { build: 2, reuse: 2 },
            EventBody::StepPhase { layer: "rust".into(), phase: "building".into() },
            EventBody::StepFinished(end("rust", Outcome::Built)),
            EventBody::StepFinished(failed()),
            EventBody::StepFinished(skipped),
            EventBody::RunFinished { outcome, built: 1, reused: 2, failed: 1, skipped: 1 },
        ];
        let mut told = Vec::new();
        for (index, body) in bodies.into_iter().enumerate() {
            let at = 1_000 * index as u64;
            told.extend(progress.take(&event(at, body)));
            told.push(format!("  [{}]", progress.status(Timestamp(at))));
        }
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn a_run_without_work_is_one_line() {
        let mut progress = Progress::new(&Plan::default(), Style::PLAIN);
        progress.take(&event(0, EventBody::RunStarted { build: 0, reuse: 8 }));
        let outcome = RunOutcome::Success;
        let last = event(7, EventBody::RunFinished { outcome, built: 0, reused: 8, failed: 0, skipped: 0 });
        assert_eq!(progress.take(&last), ["8 layers: all reused, nothing to build · 7 ms"]);
    }
}
