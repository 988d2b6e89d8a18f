//! The run: which step goes when, and that every lease comes home. Refuses: knowing what a build is.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bill::Bill;
use super::effect::{Effect, Timer};
use super::input::{Input, StopLevel};
use super::lease::LeaseState;
use super::step::{Doom, Step, StepSpec, StepState};
use crate::base::{LayerName, LeaseId, RunId, Timestamp};
use crate::model::{EventBody, Fault, FaultKind, Outcome, RunOutcome, Size};

/// What bounds a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Steps at the same time, at least 1.
    pub width: usize,
    /// Whether independent layers go on after a failure.
    pub keep_going: bool,
    /// New leases a step may get after infrastructure faults.
    pub infrastructure_retries: u32,
    /// The pause before the first of them; doubled each time.
    pub retry_pause: Duration,
    /// Releases tried before a lease counts as stuck.
    pub release_tries: u32,
    /// Whether steps have time budgets.
    pub budgets: bool,
    /// Whether a lease that is still good takes the next layer that fits.
    pub packed: bool,
    /// Leases at once; 0 is no bound.
    pub max_leases: usize,
    /// No lease is used longer; none where they have no end.
    pub max_lifetime: Option<Duration>,
    /// What a started hour of a runner type costs, millionths of the currency's unit.
    pub prices: BTreeMap<String, u64>,
    /// Of the prices, ISO 4217.
    pub currency: String,
    /// What the run may cost, millionths.
    pub max_cost_micros: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            width: 2,
            keep_going: true,
            infrastructure_retries: 2,
            retry_pause: Duration::from_secs(1),
            release_tries: 5,
            budgets: true,
            packed: false,
            max_leases: 0,
            max_lifetime: None,
            prices: BTreeMap::new(),
            currency: String::new(),
            max_cost_micros: None,
        }
    }
}

/// One execution of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub(super) id: RunId,
    pub(super) limits: Limits,
    /// In the order in which ready steps are started.
    pub(super) order: Vec<LayerName>,
    pub(super) steps: BTreeMap<LayerName, Step>,
    pub(super) leases: BTreeMap<LeaseId, LeaseState>,
    /// What each lease was asked to be at least.
    pub(super) sizes: BTreeMap<LeaseId, Size>,
    /// What was granted.
    pub(super) runner_types: BTreeMap<LeaseId, String>,
    pub(super) bill: Bill,
    pub(super) begun: bool,
    pub(super) stop: Option<StopLevel>,
    pub(super) closed: bool,
    pub(super) finished: bool,
}

impl Run {
    /// A run over these steps, given in topological order: also the order of preference among ready ones.
    pub fn new(id: RunId, specs: Vec<StepSpec>, limits: Limits) -> Self {
        let order = specs.iter().map(|spec| spec.layer.clone()).collect();
        let steps = specs.into_iter().map(|spec| (spec.layer.clone(), Step::new(spec))).collect();
        Self {
            id,
            limits,
            order,
            steps,
            leases: BTreeMap::new(),
            sizes: BTreeMap::new(),
            runner_types: BTreeMap::new(),
            bill: Bill::default(),
            begun: false,
            stop: None,
            closed: false,
            finished: false,
        }
    }

    /// Takes what happened and says what is to be done. The same inputs at the same times give the same effects.
    pub fn on(&mut self, at: Timestamp, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.finished {
            return effects;
        }
        self.take(at, input, &mut effects);
        self.advance(at, &mut effects);
        effects
    }

    /// Whether `Finish` was asked for.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// How the steps ended so far.
    pub fn outcome_of(&self, layer: &LayerName) -> Option<Outcome> {
        self.steps.get(layer).and_then(|step| step.outcome)
    }

    /// The leases that could not be given back.
    pub fn stuck(&self) -> impl Iterator<Item = &LeaseId> {
        self.leases.iter().filter(|(_, state)| **state == LeaseState::Stuck).map(|(lease, _)| lease)
    }

    /// How many steps ended so.
    pub fn count(&self, wanted: Outcome) -> usize {
        self.steps.values().filter(|step| step.outcome == Some(wanted)).count()
    }

    /// The kinds of the faults that steps failed with.
    pub fn faults(&self) -> impl Iterator<Item = FaultKind> {
        self.steps.values().filter_map(|step| step.fault)
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
            Input::LeaseGranted { lease, runner_type } => self.granted(at, lease, runner_type, effects),
            Input::LeaseRefused { lease, fault } => self.refused(at, &lease, fault, effects),
            Input::Synced { layer } => self.move_on(&layer, StepState::Syncing, StepState::Building, effects),
            Input::BuildDone { layer, digest, steps, cached, measured } => {
                if let Some(step) = self.in_state(&layer, StepState::Building) {
                    step.measured = measured;
                    (step.digest, step.steps, step.cached) = (Some(digest), steps, cached);
                    self.move_on(&layer, StepState::Building, StepState::Verifying, effects);
                }
            }
            Input::Found { layer, digest } => {
                if let Some(step) = self.in_state(&layer, StepState::Building) {
                    step.digest = Some(digest);
                    self.end(at, &layer, Outcome::Reused, None, None, effects);
                }
            }
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
            Input::ReleaseFailed { lease, message } => self.release_failed(lease, message, effects),
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

    /// Moves a step that is not doomed from one state to the next and asks for the work of the new one.
    fn move_on(&mut self, layer: &LayerName, from: StepState, to: StepState, effects: &mut Vec<Effect>) {
        let Some(step) = self.in_state(layer, from) else { return };
        step.state = to;
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
            effects.push(Effect::Record { layer: layer.clone(), duration });
        }
    }

    fn faulted(&mut self, at: Timestamp, layer: &LayerName, fault: Fault, effects: &mut Vec<Effect>) {
        let Some(step) = self.steps.get(layer) else { return };
        let working = step.state.is_killable() || step.state == StepState::Recording;
        if step.doom.is_none() && working {
            self.retry_or_fail(at, layer, fault, effects);
        }
    }

    pub(super) fn retry_or_fail(&mut self, at: Timestamp, layer: &LayerName, fault: Fault, effects: &mut Vec<Effect>) {
        let (stop, limits) = (self.stop, self.limits.clone());
        let step = self.step(layer);
        let larger = step.size_index + 1 < step.spec.sizes.len();
        let pause = match fault.kind {
            FaultKind::OutOfMemory if larger && step.oom_retries < super::MAX_OOM_RETRIES => {
                step.oom_retries += 1;
                step.size_index += 1;
                Duration::ZERO
            }
            FaultKind::Infrastructure if step.infrastructure_retries < limits.infrastructure_retries => {
                let pause = limits.retry_pause.saturating_mul(1 << step.infrastructure_retries.min(16));
                step.infrastructure_retries += 1;
                pause
            }
            _ => return self.end(at, layer, Outcome::Failed, Some(fault), None, effects),
        };
        if stop.is_some() {
            return self.end(at, layer, Outcome::Cancelled, Some(fault), None, effects);
        }
        step.state = StepState::Pausing;
        let runner_type = step.size().runner_type.clone();
        effects.push(emit(EventBody::StepRetried { layer: layer.clone(), fault, runner_type }));
        self.drop_lease(at, layer, false, effects);
        effects.push(Effect::Arm { timer: Timer::Retry { layer: layer.clone() }, after: pause });
    }

    fn killed(&mut self, at: Timestamp, layer: &LayerName, effects: &mut Vec<Effect>) {
        let Some(step) = self.steps.get(layer).filter(|step| step.state != StepState::Ended) else { return };
        match step.doom {
            Some(Doom::Stopped) => self.end(at, layer, Outcome::Cancelled, None, None, effects),
            Some(Doom::OverBudget) => {
                let minutes = step.size().time_budget_min;
                let message = format!("over its time budget of {minutes} minutes");
                let fault = Fault::new(FaultKind::Timeout, "lian::life::over_budget", message)
                    .help("set `time_budget_min` in .build-spec.ncl beside the context, or make the build quicker");
                self.end(at, layer, Outcome::Failed, Some(fault), None, effects);
            }
            Some(Doom::Outlived) => {
                self.end(at, layer, Outcome::Failed, Some(super::leasing::outlived()), None, effects)
            }
            None => {}
        }
    }

    fn timer(&mut self, timer: Timer, effects: &mut Vec<Effect>) {
        match timer {
            Timer::Budget { layer, attempt } => {
                let Some(step) = self.steps.get_mut(&layer) else { return };
                if step.attempts == attempt && step.doom.is_none() && step.state.is_killable() {
                    step.doom = Some(Doom::OverBudget);
                    effects.push(Effect::Kill { layer, hard: false });
                }
            }
            Timer::Retry { layer } => {
                if let Some(step) = self.steps.get_mut(&layer).filter(|step| step.state == StepState::Pausing) {
                    step.state = StepState::Ready;
                }
            }
            Timer::Turn { lease } => self.turned(lease, effects),
            Timer::Lifetime { lease } => self.outlived(&lease, effects),
            Timer::Release { lease } => {
                if let Some(LeaseState::Releasing { .. }) = self.leases.get(&lease) {
                    effects.push(Effect::Release { lease });
                }
            }
        }
    }

    fn stopped(&mut self, at: Timestamp, level: StopLevel, effects: &mut Vec<Effect>) {
        if self.stop >= Some(level) {
            return;
        }
        self.stop = Some(level);
        effects.push(emit(EventBody::RunStopping { hard: level == StopLevel::Kill }));
        for layer in self.order.clone() {
            let step = self.step(&layer);
            match step.state {
                StepState::Waiting | StepState::Ready | StepState::Pausing | StepState::Leasing => {
                    self.end(at, &layer, Outcome::Cancelled, None, None, effects);
                }
                state if state.is_killable() && (step.doom.is_none() || level == StopLevel::Kill) => {
                    step.doom.get_or_insert(Doom::Stopped);
                    effects.push(Effect::Kill { layer, hard: level == StopLevel::Kill });
                }
                _ => {}
            }
        }
    }

    /// Ends a step: says so, gives its lease back, and skips its descendants where it did not end well.
    pub(super) fn end(
        &mut self,
        at: Timestamp,
        layer: &LayerName,
        outcome: Outcome,
        fault: Option<Fault>,
        because: Option<LayerName>,
        effects: &mut Vec<Effect>,
    ) {
        let step = self.step(layer);
        step.state = StepState::Ended;
        step.outcome = Some(outcome);
        step.fault = fault.as_ref().map(|fault| fault.kind).filter(|_| outcome == Outcome::Failed);
        // A runner on which a build failed by its own fault is as good as before.
        let good = match outcome {
            Outcome::Built => true,
            Outcome::Failed => matches!(step.fault, Some(FaultKind::Build | FaultKind::Verification)),
            _ => false,
        };
        effects.push(emit(EventBody::StepFinished(step.end(at, outcome, fault, because))));
        self.drop_lease(at, layer, good, effects);
        if outcome != Outcome::Failed {
            return;
        }
        if !self.limits.keep_going {
            self.closed = true;
        }
        self.skip_after(at, layer, effects);
    }

    /// Skips what stands on a failed layer; in topological order, so that one pass reaches every descendant.
    fn skip_after(&mut self, at: Timestamp, failed: &LayerName, effects: &mut Vec<Effect>) {
        let mut fallen = std::collections::BTreeSet::from([failed.clone()]);
        for layer in self.order.clone() {
            let step = &self.steps[&layer];
            let idle = matches!(step.state, StepState::Waiting | StepState::Ready);
            if idle && step.spec.parents.iter().any(|parent| fallen.contains(parent)) {
                fallen.insert(layer.clone());
                self.end(at, &layer, Outcome::Skipped, None, Some(failed.clone()), effects);
            }
        }
    }

    /// Starts what may start and finishes when nothing is left.
    fn advance(&mut self, at: Timestamp, effects: &mut Vec<Effect>) {
        if !self.begun && self.stop.is_none() {
            return;
        }
        let mut active = self.steps.values().filter(|step| step.state.is_active()).count();
        for layer in &self.order.clone() {
            let step = &self.steps[layer];
            if step.state == StepState::Waiting && step.spec.parents.iter().all(|parent| self.parent_done(parent)) {
                self.step(layer).state = StepState::Ready;
            }
            if self.steps[layer].state != StepState::Ready {
                continue;
            }
            if self.closed {
                self.end(at, layer, Outcome::Skipped, None, None, effects);
            } else if active < self.limits.width.max(1) && self.start(at, layer, effects) {
                active += 1;
            }
        }
        self.close_waiting(at, effects);
        self.release_useless(effects);
        self.finish(at, effects);
    }

    /// After a failure with `--fail-fast`, what waits for something that will not come is skipped.
    fn close_waiting(&mut self, at: Timestamp, effects: &mut Vec<Effect>) {
        if !self.closed || self.steps.values().any(|step| step.state.is_active()) {
            return;
        }
        for layer in self.order.clone() {
            if self.steps[&layer].state == StepState::Waiting {
                self.end(at, &layer, Outcome::Skipped, None, None, effects);
            }
        }
    }

    fn parent_done(&self, parent: &LayerName) -> bool {
        self.steps.get(parent).is_none_or(Step::ended_well)
    }

    /// Starts a ready step, if there is a lease for it.
    fn start(&mut self, at: Timestamp, layer: &LayerName, effects: &mut Vec<Effect>) -> bool {
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
        if !steps_over || !self.leases.values().all(LeaseState::is_over) {
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

    /// The step, if it is in this state and not asked to die.
    fn in_state(&mut self, layer: &LayerName, state: StepState) -> Option<&mut Step> {
        self.steps.get_mut(layer).filter(|step| step.state == state && step.doom.is_none())
    }
}

pub(super) fn emit(body: EventBody) -> Effect {
    Effect::Emit(Box::new(body))
}

pub(super) fn phase(layer: &LayerName, state: StepState) -> Effect {
    emit(EventBody::StepPhase { layer: layer.clone(), phase: state.phase().to_owned() })
}
