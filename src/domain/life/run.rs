//! The run: decides which step starts when, and sees that every lease is released. Not responsible for: knowing what a
//! build is.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bill::Bill;
use super::effect::{Effect, Timer};
use super::input::{Input, StopLevel};
use super::lease::{Lease, LeaseState};
use super::limits::Limits;
use super::step::{Step, StepSpec, StepState};
use crate::domain::base::{LayerName, LeaseId, RunId, Timestamp};
use crate::domain::model::{EventBody, FaultClass, Outcome, RunOutcome};

/// One execution of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub(super) id: RunId,
    pub(super) limits: Limits,
    /// The order in which ready steps are started.
    pub(super) order: Vec<LayerName>,
    pub(super) steps: BTreeMap<LayerName, Step>,
    pub(super) leases: BTreeMap<LeaseId, Lease>,
    pub(super) bill: Bill,
    /// The time of the latest input.
    pub(super) at: Timestamp,
    pub(super) begun: bool,
    pub(super) stop: Option<StopLevel>,
    pub(super) closed: bool,
    pub(super) finished: bool,
}

impl Run {
    /// A run over these steps, which must be in topological order. Ready steps are started in the same order.
    pub fn new(id: RunId, specs: Vec<StepSpec>, limits: Limits) -> Self {
        let order = specs.iter().map(|spec| spec.layer.clone()).collect();
        let steps = specs.into_iter().map(|spec| (spec.layer.clone(), Step::new(spec))).collect();
        Self {
            id,
            limits,
            order,
            steps,
            leases: BTreeMap::new(),
            bill: Bill::default(),
            at: Timestamp(0),
            begun: false,
            stop: None,
            closed: false,
            finished: false,
        }
    }

    /// Takes an input and returns the effects to perform. The same inputs at the same times give the same effects.
    pub fn on(&mut self, at: Timestamp, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.finished {
            return effects;
        }
        self.at = at;
        self.take(at, input, &mut effects);
        self.advance(at, &mut effects);
        effects
    }

    /// Whether the run has requested `Finish`.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// The outcomes of the steps that have ended.
    pub fn outcome_of(&self, layer: &LayerName) -> Option<Outcome> {
        self.steps.get(layer).and_then(|step| step.outcome)
    }

    /// Whether it was ended before everything was given back.
    pub fn was_left(&self) -> bool {
        self.stop == Some(StopLevel::Leave)
    }

    /// The leases that could not be released.
    pub fn stuck(&self) -> impl Iterator<Item = &LeaseId> {
        self.leases.iter().filter(|(_, lease)| lease.state == LeaseState::Stuck).map(|(id, _)| id)
    }

    /// How many steps ended with this outcome.
    pub fn count(&self, wanted: Outcome) -> usize {
        self.steps.values().filter(|step| step.outcome == Some(wanted)).count()
    }

    /// The classes of the faults of failed steps.
    pub fn faults(&self) -> impl Iterator<Item = FaultClass> {
        self.steps.values().filter_map(Step::blame)
    }

    /// The run's outcome, as far as it is known.
    pub fn outcome(&self) -> RunOutcome {
        if self.count(Outcome::Cancelled) > 0 {
            RunOutcome::Cancelled
        } else if self.steps.values().all(Step::ended_well) {
            RunOutcome::Success
        } else {
            RunOutcome::Failure
        }
    }

    fn take(&mut self, at: Timestamp, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Begin => self.begin(at, effects),
            Input::LeaseGranted { lease, runner_type, cpu, memory_gb } => {
                self.granted(at, lease, runner_type, (cpu, memory_gb), effects);
            }
            Input::LeaseRefused { lease, fault } => self.refused(at, &lease, fault, effects),
            Input::Claimed { layer } => self.claimed(at, &layer),
            Input::ClaimTaken { layer } => self.claim_taken(at, &layer, effects),
            Input::Synced { layer } => self.move_on(&layer, StepState::Syncing, StepState::Building, effects),
            Input::BuildDone { layer, digest, steps, cached, measured } => {
                if let Some(step) = self.in_state(&layer, StepState::Building) {
                    step.measured = measured;
                    (step.digest, step.steps, step.cached) = (Some(digest), steps, cached);
                    self.move_on(&layer, StepState::Building, StepState::Verifying, effects);
                }
            }
            Input::Found { layer, digest } => self.found(at, &layer, digest, effects),
            Input::Verified { layer } => self.move_on(&layer, StepState::Verifying, StepState::Recording, effects),
            Input::Promoted { layer } => self.promoted(at, &layer, effects),
            Input::Recorded { layer } => {
                if self.in_state(&layer, StepState::Recording).is_some() {
                    self.end(at, &layer, Outcome::Built, None, None, effects);
                }
            }
            Input::Faulted { layer, fault } => self.faulted(at, &layer, fault, effects),
            Input::Killed { layer } => self.killed(at, &layer, effects),
            Input::Released { lease } => self.released(at, lease, effects),
            Input::ReleaseFailed { lease, message, is_final } => self.release_failed(lease, message, is_final, effects),
            Input::TimerFired { timer } => self.timer(timer, effects),
            Input::Stop { level } => self.stopped(at, level, effects),
        }
    }

    fn begin(&mut self, at: Timestamp, effects: &mut Vec<Effect>) {
        if self.begun {
            return;
        }
        self.begun = true;
        let reuse = self.steps.values().filter(|step| step.spec.reuse.is_some()).count();
        let build = self.steps.len() - reuse;
        effects.push(Effect::Emit(Box::new(EventBody::RunStarted { build, reuse })));
        let reused: Vec<LayerName> =
            self.order.iter().filter(|layer| self.steps[*layer].spec.reuse.is_some()).cloned().collect();
        for layer in reused {
            let step = self.step(&layer);
            step.digest.clone_from(&step.spec.reuse);
            self.end(at, &layer, Outcome::Reused, None, None, effects);
        }
    }

    /// Moves a step from one state to the next, unless it is being cancelled, and requests the work of the new state.
    fn move_on(&mut self, layer: &LayerName, from: StepState, to: StepState, effects: &mut Vec<Effect>) {
        let at = self.at;
        let Some(step) = self.in_state(layer, from) else { return };
        step.enter(at, to);
        let lease = step.lease.clone().expect("invariant: a step past leasing holds a lease");
        effects.push(phase(layer, to));
        let layer = layer.clone();
        match to {
            StepState::Building => {
                let attempt = self.step(&layer).attempts;
                effects.push(emit(EventBody::StepStarted { layer: layer.clone(), attempt }));
                if self.limits.budgets {
                    let minutes = u64::from(self.step(&layer).size().time_budget_min);
                    let timer = Timer::Budget { layer: layer.clone(), attempt };
                    effects.push(Effect::Arm { timer, after: Duration::from_secs(minutes * 60) });
                }
                effects.push(Effect::Build { layer, lease });
            }
            StepState::Verifying => effects.push(Effect::Verify { layer, lease }),
            StepState::Recording => effects.push(Effect::Promote { layer }),
            _ => {}
        }
    }

    fn promoted(&mut self, at: Timestamp, layer: &LayerName, effects: &mut Vec<Effect>) {
        if let Some(step) = self.in_state(layer, StepState::Recording) {
            let duration = step.started.map_or(Duration::ZERO, |started| at.since(started));
            let phases = step.phases.clone();
            effects.push(Effect::Record { layer: layer.clone(), duration, phases });
        }
    }

    /// Starts the steps that may start, and finishes the run when nothing is left to do.
    fn advance(&mut self, at: Timestamp, effects: &mut Vec<Effect>) {
        if !self.begun && self.stop.is_none() {
            return;
        }
        while self.start_ready(at, effects) {}
        self.hand_over(at, effects);
        self.close_waiting(at, effects);
        self.release_useless(at, effects);
        self.finish(at, effects);
    }

    /// Starts ready steps in the plan's order, as far as the limits allow. Returns whether a step ended instead: its
    /// place is free for one before it.
    fn start_ready(&mut self, at: Timestamp, effects: &mut Vec<Effect>) -> bool {
        let ended = |run: &Self| run.steps.values().filter(|step| step.state == StepState::Ended).count();
        let ended_before = ended(self);
        let mut active = self.steps.values().filter(|step| step.state.is_active()).count();
        // Whoever holds a claim keeps its place: an earlier step that is ready only now takes none from it.
        let mut kept = self.steps.values().filter(|step| step.is_claimed_only()).count();
        let mut is_open = false;
        for layer in &self.order.clone() {
            let step = &self.steps[layer];
            if step.state == StepState::Waiting && step.spec.parents.iter().all(|parent| self.parent_done(parent)) {
                self.step(layer).enter(at, StepState::Ready);
            }
            let step = &self.steps[layer];
            is_open |= step.state == StepState::Claiming;
            if step.state != StepState::Ready {
                continue;
            }
            kept -= usize::from(step.is_claimed_only());
            if self.closed {
                self.end(at, layer, Outcome::Skipped, None, None, effects);
            } else if active + kept * usize::from(!step.claimed) < self.limits.width.max(1) {
                active += usize::from(self.start(at, layer, is_open, effects));
                is_open |= self.steps[layer].state == StepState::Claiming;
            }
        }
        ended(self) > ended_before
    }

    fn parent_done(&self, parent: &LayerName) -> bool {
        self.steps.get(parent).is_none_or(Step::ended_well)
    }

    /// Starts a ready step, if it can get a lease. It claims its key first: waiting for another run costs nothing
    /// then. Runners go to steps in the plan's order: while an earlier step's claim `is_open`, a step that has its own
    /// waits for that answer. Returns whether it takes a place.
    fn start(&mut self, at: Timestamp, layer: &LayerName, is_open: bool, effects: &mut Vec<Effect>) -> bool {
        if self.limits.claims && !self.steps[layer].claimed {
            return self.claim(at, layer, effects);
        }
        if is_open {
            return true;
        }
        let started = self.lease_for(at, layer, effects);
        if started {
            let step = self.step(layer);
            step.attempts += 1;
            step.started.get_or_insert(at);
        }
        started
    }

    fn finish(&mut self, at: Timestamp, effects: &mut Vec<Effect>) {
        let steps_over = self.steps.values().all(|step| step.state == StepState::Ended);
        if !steps_over || !self.leases.values().all(|lease| lease.state.is_over()) {
            return;
        }
        self.finished = true;
        let (started_hours, leases) = self.bill.hours(at);
        if leases > 0 {
            let (currency, micros) = (self.limits.currency.clone(), self.bill.micros(at));
            effects.push(emit(EventBody::RunCost { currency, micros, leases, started_hours }));
        }
        effects.push(emit(EventBody::RunFinished {
            outcome: self.outcome(),
            built: self.count(Outcome::Built),
            reused: self.count(Outcome::Reused),
            failed: self.count(Outcome::Failed),
            skipped: self.count(Outcome::Skipped) + self.count(Outcome::Cancelled),
        }));
        effects.push(Effect::Finish);
    }

    pub(super) fn step(&mut self, layer: &LayerName) -> &mut Step {
        self.steps.get_mut(layer).expect("invariant: a run only speaks of its own steps")
    }

    /// The step, if it is in this state and is not being cancelled.
    pub(super) fn in_state(&mut self, layer: &LayerName, state: StepState) -> Option<&mut Step> {
        self.steps.get_mut(layer).filter(|step| step.state == state && step.doom.is_none())
    }
}

pub(super) fn emit(body: EventBody) -> Effect {
    Effect::Emit(Box::new(body))
}

pub(super) fn phase(layer: &LayerName, state: StepState) -> Effect {
    emit(EventBody::StepPhase { layer: layer.clone(), phase: state.phase().to_owned() })
}
