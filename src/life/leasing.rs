//! Leases within a run: asked for, taken over by the next step, given back exactly once. Refuses: which step goes when.

use super::effect::{Effect, Timer};
use super::lease::LeaseState;
use super::run::{Run, emit, phase};
use super::step::{Doom, StepState};
use crate::base::{LayerName, LeaseId, Timestamp};
use crate::model::{EventBody, Fault, FaultKind, Outcome, Size};

impl Run {
    /// Gives a step a runner: an idle one that is large enough, or a new one. Says whether there was room for it.
    pub(super) fn lease_for(&mut self, at: Timestamp, layer: &LayerName, effects: &mut Vec<Effect>) -> bool {
        let size = self.step(layer).size().clone();
        if let Some(lease) = self.idle(&size) {
            self.leases.insert(lease.clone(), LeaseState::Held);
            self.step(layer).lease = Some(lease.clone());
            self.step(layer).runner_type = self.runner_types.get(&lease).cloned();
            self.begin_sync(layer, lease, effects);
            return true;
        }
        if self.limits.max_leases > 0 && self.open_leases() >= self.limits.max_leases {
            // Room for it is made by whatever idles and is too small.
            self.release_idle(1, effects);
            return false;
        }
        if let Some(fault) = self.too_dear(at, &size) {
            // A lease that is in use may come free for it; the last one that could will not.
            let coming = |(lease, state): (&LeaseId, &LeaseState)| {
                let coming = matches!(state, LeaseState::Held | LeaseState::Asked { unwanted: false });
                self.limits.packed && coming && fits(&self.sizes[lease], &size)
            };
            if !self.leases.iter().any(coming) {
                self.end(at, layer, Outcome::Failed, Some(fault), None, effects);
            }
            return false;
        }
        let lease = LeaseId::new(format!("{}-{}", self.id, self.leases.len() + 1));
        let step = self.step(layer);
        step.lease = Some(lease.clone());
        step.state = StepState::Leasing;
        self.leases.insert(lease.clone(), LeaseState::Asked { unwanted: false });
        self.sizes.insert(lease.clone(), size.clone());
        effects.push(phase(layer, StepState::Leasing));
        effects.push(Effect::Acquire { lease, layer: layer.clone(), size });
        true
    }

    /// Why a new lease of this size is more than the run may cost.
    fn too_dear(&self, at: Timestamp, size: &Size) -> Option<Fault> {
        let most = self.limits.max_cost_micros?;
        let price = self.limits.prices.get(&size.runner_type).copied().unwrap_or(0);
        let open = |(lease, state): (&LeaseId, &LeaseState)| match state {
            // Not on the bill before it is granted.
            LeaseState::Asked { .. } => self.limits.prices.get(&self.sizes[lease].runner_type).copied().unwrap_or(0),
            _ => 0,
        };
        let asked: u64 = self.leases.iter().map(open).sum();
        if self.bill.micros(at).saturating_add(asked).saturating_add(price) <= most {
            return None;
        }
        let message = format!("another {} would cost more than the run may: `max_cost` is reached", size.runner_type);
        Some(
            Fault::new(FaultKind::Unavailable, "lian::life::max_cost", message)
                .help("raise `runners.max_cost` in the workflow, or build less at once"),
        )
    }

    /// The smallest idle lease that is large enough.
    fn idle(&self, size: &Size) -> Option<LeaseId> {
        let idle = self.leases.iter().filter(|(_, state)| **state == LeaseState::Idle).map(|(lease, _)| lease);
        idle.filter(|lease| fits(&self.sizes[*lease], size))
            .min_by_key(|lease| (self.sizes[*lease].memory_gb, self.sizes[*lease].cpu))
            .cloned()
    }

    fn open_leases(&self) -> usize {
        self.leases.values().filter(|state| !state.is_over()).count()
    }

    /// Gives idle leases back, at most so many.
    fn release_idle(&mut self, most: usize, effects: &mut Vec<Effect>) {
        let idle = self.leases.iter().filter(|(_, state)| **state == LeaseState::Idle).map(|(lease, _)| lease.clone());
        for lease in idle.take(most).collect::<Vec<_>>() {
            self.release(lease, effects);
        }
    }

    /// Gives back every idle lease that no step to come could use.
    pub(super) fn release_useless(&mut self, effects: &mut Vec<Effect>) {
        let idle = self.leases.iter().filter(|(_, state)| **state == LeaseState::Idle).map(|(lease, _)| lease);
        let to_come = |state: StepState| matches!(state, StepState::Waiting | StepState::Ready | StepState::Pausing);
        let usable = |lease: &LeaseId| {
            let wanted = |size: &Size| fits(&self.sizes[lease], size);
            self.stop.is_none() && self.steps.values().any(|step| to_come(step.state) && wanted(step.size()))
        };
        for lease in idle.filter(|lease| !usable(lease)).cloned().collect::<Vec<_>>() {
            self.release(lease, effects);
        }
    }

    pub(super) fn granted(&mut self, at: Timestamp, lease: LeaseId, runner_type: String, effects: &mut Vec<Effect>) {
        let Some(LeaseState::Asked { unwanted }) = self.leases.get(&lease) else { return };
        if let Some(price) = self.limits.prices.get(&runner_type) {
            self.bill.begin(&lease, at, *price);
        }
        if *unwanted {
            return self.release(lease, effects);
        }
        self.leases.insert(lease.clone(), LeaseState::Held);
        if let Some(after) = self.limits.max_lifetime {
            effects.push(Effect::Arm { timer: Timer::Lifetime { lease: lease.clone() }, after });
        }
        self.runner_types.insert(lease.clone(), runner_type.clone());
        let Some(layer) = self.holder(&lease) else { return };
        self.step(&layer).runner_type = Some(runner_type.clone());
        effects.push(emit(EventBody::LeaseGranted { lease: lease.clone(), layer: layer.clone(), runner_type }));
        self.begin_sync(&layer, lease, effects);
    }

    /// A lease that idles goes; the step on one that is in use ends with it.
    pub(super) fn outlived(&mut self, lease: &LeaseId, effects: &mut Vec<Effect>) {
        match self.leases.get(lease) {
            Some(LeaseState::Idle) => self.release(lease.clone(), effects),
            Some(LeaseState::Held) => {
                let Some(layer) = self.holder(lease) else { return };
                let step = self.step(&layer);
                if step.doom.is_none() && step.state.is_killable() {
                    step.doom = Some(Doom::Outlived);
                    effects.push(Effect::Kill { layer, hard: false });
                }
            }
            _ => {}
        }
    }

    fn begin_sync(&mut self, layer: &LayerName, lease: LeaseId, effects: &mut Vec<Effect>) {
        self.step(layer).state = StepState::Syncing;
        effects.push(phase(layer, StepState::Syncing));
        effects.push(Effect::Sync { layer: layer.clone(), lease });
    }

    /// Whatever was asked for may exist half-done: it is given back even where it was refused.
    pub(super) fn refused(&mut self, at: Timestamp, lease: &LeaseId, fault: Fault, effects: &mut Vec<Effect>) {
        if !matches!(self.leases.get(lease), Some(LeaseState::Asked { .. })) {
            return;
        }
        let layer = self.holder(lease);
        self.release(lease.clone(), effects);
        if let Some(layer) = layer {
            self.step(&layer).lease = None;
            self.retry_or_fail(at, &layer, fault, effects);
        }
    }

    pub(super) fn released(&mut self, at: Timestamp, lease: LeaseId, effects: &mut Vec<Effect>) {
        if let Some(LeaseState::Releasing { .. }) = self.leases.get(&lease) {
            self.bill.end(&lease, at);
            self.leases.insert(lease.clone(), LeaseState::Gone);
            effects.push(emit(EventBody::LeaseReleased { lease }));
        }
    }

    pub(super) fn release_failed(&mut self, lease: LeaseId, message: String, effects: &mut Vec<Effect>) {
        let Some(LeaseState::Releasing { failures }) = self.leases.get(&lease) else { return };
        let failures = failures + 1;
        if failures >= self.limits.release_tries {
            self.leases.insert(lease.clone(), LeaseState::Stuck);
            effects.push(emit(EventBody::LeaseStuck { lease, message }));
        } else {
            self.leases.insert(lease.clone(), LeaseState::Releasing { failures });
            let after = self.limits.retry_pause.saturating_mul(1 << failures.min(16));
            effects.push(Effect::Arm { timer: Timer::Release { lease }, after });
        }
    }

    /// A step needs its lease no more: it idles for the next one where it is still good, and goes back, at once or as soon
    /// as it comes, where it is not.
    pub(super) fn drop_lease(&mut self, at: Timestamp, layer: &LayerName, good: bool, effects: &mut Vec<Effect>) {
        let Some(lease) = self.step(layer).lease.take() else { return };
        match self.leases.get_mut(&lease) {
            Some(LeaseState::Asked { unwanted }) => {
                *unwanted = true;
                effects.push(Effect::Abandon { lease });
            }
            Some(state @ LeaseState::Held) if good && self.limits.packed => {
                *state = LeaseState::Idle;
                if let Some(after) = self.bill.until_turn(&lease, at) {
                    effects.push(Effect::Arm { timer: Timer::Turn { lease }, after });
                }
            }
            Some(LeaseState::Held) => self.release(lease, effects),
            _ => {}
        }
    }

    /// The hour of a lease turns: where it idles it would be paid for nothing.
    pub(super) fn turned(&mut self, lease: LeaseId, effects: &mut Vec<Effect>) {
        if self.leases.get(&lease) == Some(&LeaseState::Idle) {
            self.release(lease, effects);
        }
    }

    fn release(&mut self, lease: LeaseId, effects: &mut Vec<Effect>) {
        self.leases.insert(lease.clone(), LeaseState::Releasing { failures: 0 });
        effects.push(Effect::Release { lease });
    }

    fn holder(&self, lease: &LeaseId) -> Option<LayerName> {
        self.steps.iter().find(|(_, step)| step.lease.as_ref() == Some(lease)).map(|(layer, _)| layer.clone())
    }
}

/// The fault of a step whose runner has lived as long as it may.
pub(super) fn outlived() -> Fault {
    let message = "its runner has lived as long as a runner may";
    Fault::new(FaultKind::Timeout, "lian::life::lifetime", message)
        .help("raise `runners.max_lifetime_min` in the workflow, or make the build quicker")
}

fn fits(lease: &Size, wanted: &Size) -> bool {
    lease.cpu >= wanted.cpu && lease.memory_gb >= wanted.memory_gb
}
