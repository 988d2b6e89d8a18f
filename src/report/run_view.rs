//! State of every step of a run, computed from its events. Not responsible for: rendering, clocks.

use std::collections::BTreeMap;
use std::time::Duration;

use super::schedule::{Todo, makespan};
use crate::domain::base::{LayerName, LeaseId, Timestamp};
use crate::domain::model::{
    Action, BuildEvent, Event, EventBody, Fault, Outcome, Plan, PlannedStep, StepEnd, VertexState,
};

/// State of a step of the plan.
#[derive(Debug, Clone)]
pub enum StepView {
    /// Its parents are not done, or the limit of parallel steps is reached.
    Waiting,
    /// In progress.
    Running(Running),
    /// Finished, with any outcome.
    Ended(Box<StepEnd>),
}

/// A step in progress.
#[derive(Debug, Clone)]
pub struct Running {
    /// Start time.
    pub since: Timestamp,
    /// When its phase began.
    pub phase_since: Timestamp,
    /// Phase, e.g. `contended`, `leasing`, `syncing`, `building`, `verifying`, `recording`.
    pub phase: String,
    /// Runner, once known.
    pub runner: Option<String>,
    /// Dockerfile steps running now, the latest last: id and name.
    vertices: Vec<(String, String)>,
    /// The last value of `current`, kept to avoid flicker between two steps.
    last: Option<String>,
    /// Bytes of the context sent so far, and the total if known.
    pub sent: Option<(u64, Option<u64>)>,
    /// Bytes of the runner's memory in use, and its limit.
    pub memory: Option<(u64, u64)>,
}

impl Running {
    /// The most informative Dockerfile step: the latest numbered one, else the latest.
    pub fn current(&self) -> Option<&str> {
        self.told().or(self.last.as_deref())
    }

    fn told(&self) -> Option<&str> {
        let numbered = self.vertices.iter().rev().find(|(_, name)| is_numbered(name));
        numbered.or(self.vertices.last()).map(|(_, name)| name.as_str())
    }

    fn vertex(&mut self, vertex: &str, name: &str, state: VertexState) {
        let before = self.told().map(str::to_owned);
        self.vertices.retain(|(known, _)| known != vertex);
        if state == VertexState::Started {
            self.vertices.push((vertex.to_owned(), name.to_owned()));
        }
        if self.vertices.is_empty() {
            self.last = before.or(self.last.take());
        }
    }
}

/// A failed attempt that was retried.
#[derive(Debug, Clone)]
pub struct Earlier {
    /// The fault.
    pub fault: Fault,
    /// Runner of the attempt, if known.
    pub runner: Option<String>,
}

/// State of a run, for display.
#[derive(Debug, Clone)]
pub struct RunView {
    pub plan: Plan,
    pub started: Option<Timestamp>,
    /// When the command began, which first plans; the run's own start where unknown.
    pub began: Option<Timestamp>,
    standings: Vec<StepView>,
    places: BTreeMap<LayerName, usize>,
    parents: Vec<Vec<usize>>,
    earlier: BTreeMap<LayerName, Vec<Earlier>>,
    failed: Vec<usize>,
    width: usize,
    /// Cost of the leases: currency, millionths of its unit, number of leases, started hours.
    pub cost: Option<(String, u64, usize, u64)>,
    /// Leases that could not be released.
    pub stuck: Vec<LeaseId>,
    /// Runner types that each layer may get, smallest first, where known.
    pub ladders: BTreeMap<LayerName, Vec<String>>,
}

impl RunView {
    /// State of a plan before its first event. `width` is the number of parallel layers.
    pub fn new(plan: Plan, width: usize) -> Self {
        let places: BTreeMap<LayerName, usize> =
            plan.steps.iter().enumerate().map(|(at, step)| (step.layer.clone(), at)).collect();
        let parents = plan.steps.iter();
        let parents = parents
            .map(|step| step.parents.iter().filter_map(|parent| places.get(parent).copied()).collect())
            .collect();
        Self {
            started: None,
            began: None,
            cost: None,
            stuck: Vec::new(),
            ladders: BTreeMap::new(),
            standings: vec![StepView::Waiting; plan.steps.len()],
            places,
            parents,
            earlier: BTreeMap::new(),
            failed: Vec::new(),
            width,
            plan,
        }
    }

    fn run_step(&mut self, layer: &LayerName, at: Timestamp) -> Option<&mut Running> {
        let standing = self.standings.get_mut(*self.places.get(layer)?)?;
        if matches!(standing, StepView::Waiting) {
            let phase = "building".to_owned();
            let vertices = Vec::new();
            let running = Running {
                since: at,
                phase_since: at,
                phase,
                runner: None,
                vertices,
                last: None,
                sent: None,
                memory: None,
            };
            *standing = StepView::Running(running);
        }
        match standing {
            StepView::Running(running) => Some(running),
            StepView::Waiting | StepView::Ended(_) => None,
        }
    }

    /// Applies an event.
    pub fn take(&mut self, event: &Event) {
        match &event.body {
            EventBody::RunStarted { .. } => self.started = Some(event.at),
            EventBody::LeaseGranted { layer, runner_type, .. } => {
                if let Some(running) = self.run_step(layer, event.at) {
                    running.runner = Some(runner_type.clone());
                }
            }
            EventBody::StepPhase { layer, phase } => {
                if let Some(running) = self.run_step(layer, event.at) {
                    running.phase.clone_from(phase);
                    running.phase_since = event.at;
                    running.memory = None;
                    running.vertices.clear();
                    running.last = None;
                }
            }
            EventBody::StepProgress { layer, progress: BuildEvent::Vertex { vertex, name, state, .. } } => {
                if let Some(running) = self.run_step(layer, event.at) {
                    running.vertex(vertex, name, *state);
                }
            }
            EventBody::StepProgress { layer, progress: BuildEvent::Progress { current, total, .. } } => {
                if let Some(running) = self.run_step(layer, event.at).filter(|running| running.phase == "syncing") {
                    running.sent = Some((*current, *total));
                }
            }
            EventBody::StepProgress { layer, progress: BuildEvent::Memory { used, limit } } => {
                if let Some(running) = self.run_step(layer, event.at).filter(|running| running.phase == "building") {
                    running.memory = Some((*used, *limit));
                }
            }
            EventBody::StepRetried { layer, fault, .. } => {
                let runner = self.running_of(layer).and_then(|running| running.runner.clone());
                let earlier = Earlier { fault: fault.clone(), runner };
                self.earlier.entry(layer.clone()).or_default().push(earlier);
            }
            EventBody::LeaseStuck { lease, .. } => self.stuck.push(lease.clone()),
            EventBody::RunCost { currency, micros, leases, started_hours } => {
                self.cost = Some((currency.clone(), *micros, *leases, *started_hours));
            }
            EventBody::StepFinished(end) => {
                if let Some(at) = self.places.get(&end.layer).copied() {
                    if end.outcome == Outcome::Failed {
                        self.failed.push(at);
                    }
                    self.standings[at] = StepView::Ended(Box::new(end.clone()));
                }
            }
            _ => {}
        }
    }

    fn running_of(&self, layer: &LayerName) -> Option<&Running> {
        match self.places.get(layer).and_then(|at| self.standings.get(*at)) {
            Some(StepView::Running(running)) => Some(running),
            _ => None,
        }
    }

    fn standings(&self) -> impl Iterator<Item = (&PlannedStep, &StepView)> {
        self.plan.steps.iter().zip(&self.standings)
    }

    /// Steps in progress, in the plan's order.
    pub fn running(&self) -> impl Iterator<Item = (&PlannedStep, &Running)> {
        self.standings().filter_map(|(step, standing)| match standing {
            StepView::Running(running) => Some((step, running)),
            StepView::Waiting | StepView::Ended(_) => None,
        })
    }

    /// Steps to build that wait, each with its unfinished parents.
    pub fn waiting(&self) -> impl Iterator<Item = (&PlannedStep, Vec<&str>)> {
        let waits = self
            .standings()
            .zip(&self.parents)
            .filter(|((step, standing), _)| step.action == Action::Build && matches!(standing, StepView::Waiting));
        waits.map(|((step, _), parents)| {
            let open = parents.iter().filter(|parent| !matches!(self.standings[**parent], StepView::Ended(_)));
            (step, open.map(|parent| self.plan.steps[*parent].layer.as_str()).collect())
        })
    }

    /// Finished steps.
    pub fn ends(&self) -> impl Iterator<Item = &StepEnd> {
        self.standings.iter().filter_map(|standing| match standing {
            StepView::Ended(end) => Some(&**end),
            StepView::Waiting | StepView::Running(_) => None,
        })
    }

    /// Failed steps, in order of failure.
    pub fn failed(&self) -> impl Iterator<Item = &StepEnd> {
        self.failed.iter().filter_map(|at| match &self.standings[*at] {
            StepView::Ended(end) => Some(&**end),
            StepView::Waiting | StepView::Running(_) => None,
        })
    }

    /// Failed attempts of a layer before its last one.
    pub fn earlier(&self, layer: &LayerName) -> &[Earlier] {
        self.earlier.get(layer).map_or(&[], Vec::as_slice)
    }

    /// Layers skipped because this one failed, in the plan's order.
    pub fn skipped_for(&self, layer: &LayerName) -> Vec<&str> {
        let skipped = self.ends().filter(|end| end.outcome == Outcome::Skipped && end.because.as_ref() == Some(layer));
        skipped.map(|end| end.layer.as_str()).collect()
    }

    /// Estimated time left, from earlier builds, and the number of steps without an estimate, which it leaves out.
    pub fn left(&self, now: Timestamp) -> (Duration, usize) {
        let mut unknown = 0;
        let todos: Vec<Todo> = self
            .standings()
            .map(|(step, standing)| {
                let takes = match (step.action, standing) {
                    (Action::Reuse, _) | (_, StepView::Ended(_)) => return Todo::Done,
                    (Action::Build, _) => step.estimate_ms,
                };
                unknown += usize::from(takes.is_none());
                match standing {
                    StepView::Running(running) => {
                        // A build that exceeds its estimate is assumed to end now.
                        let spent = u64::try_from(now.since(running.since).as_millis()).unwrap_or(u64::MAX);
                        Todo::Running(takes.unwrap_or(0).saturating_sub(spent))
                    }
                    _ => Todo::Waiting(takes.unwrap_or(0)),
                }
            })
            .collect();
        (Duration::from_millis(makespan(&todos, &self.parents, self.width)), unknown)
    }

    /// Build time saved by reused layers, where known.
    pub fn saved(&self) -> Duration {
        let reused = self
            .standings()
            .filter(|(_, standing)| matches!(standing, StepView::Ended(end) if end.outcome == Outcome::Reused));
        Duration::from_millis(reused.filter_map(|(step, _)| step.estimate_ms).sum())
    }
}

/// Whether a vertex is a step of the Dockerfile, e.g. `[4/6] RUN …` or `[stage 2/3] COPY …`.
pub fn is_numbered(name: &str) -> bool {
    let inside = name.strip_prefix('[').and_then(|rest| rest.split_once("] "));
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    inside
        .and_then(|(inside, _)| inside.rsplit(' ').next()?.split_once('/'))
        .is_some_and(|(at, of)| number(at) && number(of))
}
