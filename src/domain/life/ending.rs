//! How steps end: retried, failed, killed, cancelled, skipped. Not responsible for: starting them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::effect::{Effect, Timer};
use super::input::StopLevel;
use super::lease::LeaseState;
use super::run::{Run, emit};
use super::step::{CancelReason, StepState};
use crate::domain::base::{LayerName, Timestamp, counted};
use crate::domain::model::{EventBody, Fault, FaultClass, FaultKind, Outcome};

impl Run {
    pub(super) fn faulted(&mut self, at: Timestamp, layer: &LayerName, fault: Fault, effects: &mut Vec<Effect>) {
        let Some(step) = self.steps.get(layer) else { return };
        let working = step.state.is_killable() || step.state == StepState::Recording;
        if step.doom.is_none() && working {
            self.retry_or_fail(at, layer, fault, effects);
        }
    }

    pub(super) fn retry_or_fail(&mut self, at: Timestamp, layer: &LayerName, fault: Fault, effects: &mut Vec<Effect>) {
        // The runner may have been larger than requested: the next size must have more memory than that runner.
        let died_on = self.held_by(layer).map_or(0, |lease| lease.memory_gb);
        let (tries, first_pause) = (self.limits.infrastructure_retries, self.limits.retry_pause);
        let step = self.step(layer);
        let larger = step.next_size(died_on);
        let pause = match (fault.class(), larger) {
            (FaultClass::OutOfMemory, Some(larger)) if step.oom_retries < super::MAX_OOM_RETRIES => {
                step.oom_retries += 1;
                step.size_index = larger;
                Duration::ZERO
            }
            (FaultClass::Infrastructure, _) if step.infrastructure_retries < tries => {
                let pause = first_pause.saturating_mul(1 << step.infrastructure_retries.min(16));
                step.infrastructure_retries += 1;
                pause
            }
            _ => return self.end(at, layer, Outcome::Failed, Some(fault), None, effects),
        };
        self.again(at, layer, fault, pause, effects);
    }

    /// Another attempt, on another lease.
    fn again(&mut self, at: Timestamp, layer: &LayerName, fault: Fault, pause: Duration, effects: &mut Vec<Effect>) {
        if self.stop.is_some() {
            return self.end(at, layer, Outcome::Cancelled, Some(fault), None, effects);
        }
        let step = self.step(layer);
        step.enter(at, StepState::Pausing);
        (step.doom, step.claimed) = (None, false);
        let runner_type = step.size().runner_type.clone();
        effects.push(emit(EventBody::StepRetried { layer: layer.clone(), fault, runner_type }));
        self.drop_lease(at, layer, false, effects);
        effects.push(Effect::Arm { timer: Timer::Retry { layer: layer.clone() }, after: pause });
    }

    pub(super) fn killed(&mut self, at: Timestamp, layer: &LayerName, effects: &mut Vec<Effect>) {
        let Some(step) = self.steps.get(layer).filter(|step| step.state != StepState::Ended) else { return };
        match step.doom {
            Some(CancelReason::Stopped) => self.end(at, layer, Outcome::Cancelled, None, None, effects),
            Some(CancelReason::Closed) => self.end(at, layer, Outcome::Skipped, None, None, effects),
            Some(CancelReason::OverBudget) => {
                let minutes = step.size().time_budget_min;
                let message = format!("over its time budget of {}", counted(minutes as usize, "minute"));
                let fault = Fault::new(FaultKind::Timeout, "lian::life::over_budget", message)
                    .help("set `time_budget_min` in .build-spec.ncl beside the context, or make the build quicker");
                self.end(at, layer, Outcome::Failed, Some(fault), None, effects);
            }
            // The runner was old because other steps used it, which is not this step's fault: it gets a new lease,
            // once.
            Some(CancelReason::Outlived)
                if !step.requires_new_lease && self.held_by(layer).is_some_and(|lease| lease.layers.len() > 1) =>
            {
                self.step(layer).requires_new_lease = true;
                self.again(at, layer, outlived(), Duration::ZERO, effects);
            }
            Some(CancelReason::Outlived) => self.end(at, layer, Outcome::Failed, Some(outlived()), None, effects),
            None => {}
        }
    }

    pub(super) fn timer(&mut self, timer: Timer, effects: &mut Vec<Effect>) {
        match timer {
            Timer::Budget { layer, attempt } => {
                let Some(step) = self.steps.get_mut(&layer) else { return };
                if step.attempts == attempt && step.doom.is_none() && step.state.is_killable() {
                    step.doom = Some(CancelReason::OverBudget);
                    effects.push(Effect::Kill { layer, hard: false });
                }
            }
            Timer::Retry { layer } => {
                let at = self.at;
                if let Some(step) = self.steps.get_mut(&layer).filter(|step| step.state == StepState::Pausing) {
                    step.enter(at, StepState::Ready);
                }
            }
            Timer::Turn { lease } => self.turned(lease, effects),
            Timer::Lifetime { lease } => self.outlived(&lease, effects),
            Timer::Release { lease } => self.release_again(lease, effects),
        }
    }

    pub(super) fn stopped(&mut self, at: Timestamp, level: StopLevel, effects: &mut Vec<Effect>) {
        if self.stop >= Some(level) {
            return;
        }
        self.stop = Some(level);
        if level == StopLevel::Leave {
            return self.leave(at, effects);
        }
        effects.push(emit(EventBody::RunStopping { hard: level == StopLevel::Kill }));
        for layer in self.order.clone() {
            let step = self.step(&layer);
            match step.state {
                StepState::Waiting | StepState::Ready | StepState::Pausing | StepState::Leasing => {
                    self.end(at, &layer, Outcome::Cancelled, None, None, effects);
                }
                state if state.is_killable() && (step.doom.is_none() || level == StopLevel::Kill) => {
                    step.doom.get_or_insert(CancelReason::Stopped);
                    effects.push(Effect::Kill { layer, hard: level == StopLevel::Kill });
                }
                _ => {}
            }
        }
    }

    /// Ends the run at once: no step is waited for, and every lease that is not given back is told.
    fn leave(&mut self, at: Timestamp, effects: &mut Vec<Effect>) {
        for layer in self.order.clone() {
            if self.steps[&layer].state != StepState::Ended {
                // Its lease is told below: a release that began now would be cut short.
                self.step(&layer).lease = None;
                self.end(at, &layer, Outcome::Cancelled, None, None, effects);
            }
        }
        for (id, lease) in &mut self.leases {
            if !lease.state.is_over() {
                lease.state = LeaseState::Stuck;
                let message = "the run was left before it was given back".to_owned();
                effects.push(emit(EventBody::LeaseStuck { lease: id.clone(), message }));
            }
        }
    }

    /// Ends a step: emits the event, releases its lease, and skips its descendants unless it ended well.
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
        step.enter(at, StepState::Ended);
        step.outcome = Some(outcome);
        let failed = fault.as_ref().filter(|_| outcome == Outcome::Failed);
        step.fault = failed.map(|fault| fault.kind);
        step.fault_class = failed.map(Fault::class);
        // A runner stays good if the build failed by its own fault, or if nothing had to be built.
        let good = match outcome {
            Outcome::Built | Outcome::Reused => true,
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

    /// Skips the descendants of a failed layer. The steps are in topological order, so one pass reaches all of them.
    fn skip_after(&mut self, at: Timestamp, failed: &LayerName, effects: &mut Vec<Effect>) {
        let mut fallen = BTreeSet::from([failed.clone()]);
        for layer in self.order.clone() {
            let step = &self.steps[&layer];
            let idle = matches!(step.state, StepState::Waiting | StepState::Ready);
            if idle && step.spec.parents.iter().any(|parent| fallen.contains(parent)) {
                fallen.insert(layer.clone());
                self.end(at, &layer, Outcome::Skipped, None, Some(failed.clone()), effects);
            }
        }
    }

    /// After a failure with `--fail-fast`: skips the steps that wait for a parent that will not be built.
    pub(super) fn close_waiting(&mut self, at: Timestamp, effects: &mut Vec<Effect>) {
        if !self.closed || self.steps.values().any(|step| step.state.is_active()) {
            return;
        }
        for layer in self.order.clone() {
            if self.steps[&layer].state == StepState::Waiting {
                self.end(at, &layer, Outcome::Skipped, None, None, effects);
            }
        }
        self.stop_contending(effects);
    }
}

/// The fault of a step whose runner reached its maximum lifetime.
fn outlived() -> Fault {
    let message = "its runner has reached the maximum lifetime";
    Fault::new(FaultKind::Timeout, "lian::life::lifetime", message)
        .help("raise `runners.max_lifetime_min` in the workflow, or make the build quicker")
}
