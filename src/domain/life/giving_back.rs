//! The release of leases: a lease is kept for the next step while that pays, and released exactly once. Not responsible
//! for: assigning leases to steps.

use super::effect::{Effect, Timer};
use super::lease::{Lease, LeaseState};
use super::run::{Run, emit};
use super::step::CancelReason;
use crate::domain::base::{LayerName, LeaseId, Timestamp};
use crate::domain::model::EventBody;

impl Run {
    /// A step no longer needs its lease. If the lease is still good, it becomes idle for the next step. If not, it is
    /// released, now or as soon as it is granted.
    pub(super) fn drop_lease(&mut self, at: Timestamp, layer: &LayerName, good: bool, effects: &mut Vec<Effect>) {
        let Some(id) = self.step(layer).lease.take() else { return };
        let Some(lease) = self.leases.get_mut(&id) else { return };
        match lease.state {
            LeaseState::Asked { .. } => self.abandon(id, effects),
            LeaseState::Held if good && self.limits.packed => {
                lease.state = LeaseState::Idle;
                if let Some(after) = self.bill.until_turn(&id, at) {
                    effects.push(Effect::Arm { timer: Timer::Turn { lease: id }, after });
                }
            }
            LeaseState::Held => self.release(id, effects),
            _ => {}
        }
    }

    /// The requested runner is no longer needed.
    pub(super) fn abandon(&mut self, id: LeaseId, effects: &mut Vec<Effect>) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.state = LeaseState::Asked { unwanted: true };
            effects.push(Effect::Abandon { lease: id });
        }
    }

    /// Releases an idle lease if no other release is under way: a step waits for a lease below `max_leases`.
    pub(super) fn make_room(&mut self, effects: &mut Vec<Effect>) {
        let leaving =
            |lease: &Lease| matches!(lease.state, LeaseState::Releasing { .. } | LeaseState::Asked { unwanted: true });
        if self.leases.values().any(leaving) {
            return;
        }
        if let Some(lease) = self.idle().into_iter().next() {
            self.release(lease, effects);
        }
    }

    /// Releases every idle lease that no future step could use.
    pub(super) fn release_useless(&mut self, at: Timestamp, effects: &mut Vec<Effect>) {
        let usable = |lease: &Lease| {
            let wanted =
                self.steps.values().any(|step| self.may_need_lease(step.state) && self.may_use(at, lease, step));
            self.stop.is_none() && wanted
        };
        let idle = self.idle();
        let useless: Vec<LeaseId> = idle.into_iter().filter(|id| !usable(&self.leases[id])).collect();
        for lease in useless {
            self.release(lease, effects);
        }
    }

    fn idle(&self) -> Vec<LeaseId> {
        self.leases.iter().filter(|(_, lease)| lease.state == LeaseState::Idle).map(|(id, _)| id.clone()).collect()
    }

    /// The next hour of a lease is about to start: an idle lease is released, because it would cost money for nothing.
    pub(super) fn turned(&mut self, lease: LeaseId, effects: &mut Vec<Effect>) {
        if self.leases.get(&lease).is_some_and(|lease| lease.state == LeaseState::Idle) {
            self.release(lease, effects);
        }
    }

    /// A lease has reached its maximum lifetime: an idle one is released, and the step on one that is in use is ended.
    /// A step that is about to end anyway may end first; the lease is released after it.
    pub(super) fn outlived(&mut self, id: &LeaseId, effects: &mut Vec<Effect>) {
        let Some(lease) = self.leases.get_mut(id) else { return };
        match lease.state {
            LeaseState::Idle => self.release(id.clone(), effects),
            LeaseState::Held => {
                lease.expired = true;
                let Some(layer) = self.holder(id) else { return };
                let step = self.step(&layer);
                if step.doom.is_none() && step.state.is_killable() {
                    step.doom = Some(CancelReason::Outlived);
                    effects.push(Effect::Kill { layer, hard: false });
                }
            }
            _ => {}
        }
    }

    pub(super) fn release(&mut self, id: LeaseId, effects: &mut Vec<Effect>) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.state = LeaseState::Releasing { failures: 0 };
            effects.push(Effect::Release { lease: id });
        }
    }

    pub(super) fn released(&mut self, at: Timestamp, id: LeaseId, effects: &mut Vec<Effect>) {
        let Some(lease) = self.leases.get_mut(&id) else { return };
        if let LeaseState::Releasing { .. } = lease.state {
            lease.state = LeaseState::Gone;
            self.bill.end(&id, at);
            effects.push(emit(EventBody::LeaseReleased { lease: id }));
        }
    }

    pub(super) fn release_failed(&mut self, id: LeaseId, message: String, is_final: bool, effects: &mut Vec<Effect>) {
        let Some(lease) = self.leases.get_mut(&id) else { return };
        let LeaseState::Releasing { failures } = lease.state else { return };
        let failures = failures + 1;
        if is_final || failures >= self.limits.release_tries {
            lease.state = LeaseState::Stuck;
            effects.push(emit(EventBody::LeaseStuck { lease: id, message }));
        } else {
            lease.state = LeaseState::Releasing { failures };
            let after = self.limits.retry_pause.saturating_mul(1 << failures.min(16));
            effects.push(Effect::Arm { timer: Timer::Release { lease: id }, after });
        }
    }

    /// The pause before another try to release is over.
    pub(super) fn release_again(&mut self, id: LeaseId, effects: &mut Vec<Effect>) {
        if self.leases.get(&id).is_some_and(|lease| matches!(lease.state, LeaseState::Releasing { .. })) {
            effects.push(Effect::Release { lease: id });
        }
    }
}
