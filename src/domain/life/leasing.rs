//! The assignment of leases: requested, granted, and given to the step that has waited longest, within limits on
//! number, age and cost. Not responsible for: the order of steps, and releases (see `giving_back`).

use std::time::Duration;

use super::effect::{Effect, Timer};
use super::lease::{Lease, LeaseState};
use super::run::{Run, emit, phase};
use super::step::{Step, StepState};
use crate::domain::base::{LayerName, LeaseId, Timestamp};
use crate::domain::model::{EventBody, Fault, FaultKind, Outcome, Size};

impl Run {
    /// Gives a step a runner: an idle one that it may use, or a new one. Returns whether the limits allowed it.
    pub(super) fn lease_for(&mut self, at: Timestamp, layer: &LayerName, effects: &mut Vec<Effect>) -> bool {
        if self.is_overspent(at) {
            self.end(at, layer, Outcome::Failed, Some(overspent()), None, effects);
            return false;
        }
        if let Some(lease) = self.idle_for(at, layer) {
            self.hand(at, layer, lease, effects);
            return true;
        }
        if !self.may_get_lease(at, layer, 0) {
            self.make_room(effects);
            return false;
        }
        let size = self.steps[layer].size().clone();
        if let Some(fault) = self.too_dear(at, &size) {
            // Another lease may become idle for it. If none can, the step fails.
            let coming = |lease: &Lease| {
                let coming = matches!(lease.state, LeaseState::Held | LeaseState::Asked { unwanted: false });
                self.limits.packed && coming && self.may_use(at, lease, &self.steps[layer])
            };
            if !self.leases.values().any(coming) {
                self.end(at, layer, Outcome::Failed, Some(fault), None, effects);
            }
            return false;
        }
        self.ask(at, layer, size, effects);
        true
    }

    /// Whether the number of leases allows it a runner, an idle one that it may use or a new one, after so many other
    /// steps have taken theirs.
    pub(super) fn may_get_lease(&self, at: Timestamp, layer: &LayerName, others: usize) -> bool {
        let (most, step) = (self.limits.max_leases, &self.steps[layer]);
        let idle = |lease: &&Lease| lease.state == LeaseState::Idle && self.may_use(at, lease, step);
        most == 0 || most.saturating_sub(self.open_leases()) + self.leases.values().filter(idle).count() > others
    }

    fn ask(&mut self, at: Timestamp, layer: &LayerName, size: Size, effects: &mut Vec<Effect>) {
        let number = self.leases.len() + 1;
        let lease = LeaseId::new(format!("{}-{number}", self.id));
        let place = self.steps[layer].spec.place.clone();
        self.wait_for(layer, lease.clone(), effects);
        self.leases.insert(lease.clone(), Lease::asked(number, place.clone(), &size, at));
        if let Some(price) = self.limits.prices.get(&size.runner_type) {
            self.bill.price(&lease, at, *price);
        }
        effects.push(Effect::Acquire { lease, layer: layer.clone(), size, place });
    }

    fn wait_for(&mut self, layer: &LayerName, lease: LeaseId, effects: &mut Vec<Effect>) {
        let at = self.at;
        let step = self.step(layer);
        step.lease = Some(lease);
        step.enter(at, StepState::Leasing);
        effects.push(phase(layer, StepState::Leasing));
    }

    /// Gives the idle lease to the step that has waited longest, and swaps the pending requests of the two steps.
    fn hand(&mut self, at: Timestamp, layer: &LayerName, lease: LeaseId, effects: &mut Vec<Effect>) {
        let Some(older) = self.older_for(at, layer, &lease) else { return self.put_on(layer, lease, effects) };
        if let Some(ask) = self.step(&older).lease.take() {
            self.wait_for(layer, ask, effects);
        }
        self.put_on(&older, lease, effects);
    }

    /// The step that has waited longest for a runner, if it may use this lease and the other step could use the one
    /// that it waits for.
    fn older_for(&self, at: Timestamp, layer: &LayerName, lease: &LeaseId) -> Option<LayerName> {
        let this = &self.steps[layer];
        self.waiting().into_iter().take_while(|older| older != layer).find(|older| {
            let ask = self.held_by(older);
            let exchange = ask.is_some_and(|ask| ask.fits(&this.spec.place, this.size()));
            exchange && self.may_use(at, &self.leases[lease], &self.steps[older])
        })
    }

    /// Gives idle leases to steps that wait for a runner: a provider without further runners would never answer their
    /// requests. Idle leases that fit but are too old for any of them are released, for the same reason.
    pub(super) fn hand_over(&mut self, at: Timestamp, effects: &mut Vec<Effect>) {
        for layer in self.waiting() {
            if self.is_overspent(at) {
                self.end(at, &layer, Outcome::Failed, Some(overspent()), None, effects);
            } else if let Some(lease) = self.idle_for(at, &layer) {
                if let Some(ask) = self.step(&layer).lease.take() {
                    self.abandon(ask, effects);
                }
                self.put_on(&layer, lease, effects);
            } else {
                let step = &self.steps[&layer];
                let fits = |lease: &Lease| lease.fits(&step.spec.place, step.size());
                let barred = self.leases.iter().filter(|(_, lease)| lease.state == LeaseState::Idle && fits(lease));
                for lease in barred.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
                    self.release(lease, effects);
                }
            }
        }
    }

    /// The steps that wait for a runner, in the order of their requests.
    fn waiting(&self) -> Vec<LayerName> {
        let leasing = self.steps.iter().filter(|(_, step)| step.state == StepState::Leasing).map(|(layer, _)| layer);
        let mut waiting: Vec<LayerName> = leasing.cloned().collect();
        waiting.sort_by_key(|layer| self.held_by(layer).map(|lease| lease.number));
        waiting
    }

    fn put_on(&mut self, layer: &LayerName, lease: LeaseId, effects: &mut Vec<Effect>) {
        let Some(used) = self.leases.get_mut(&lease) else { return };
        used.state = LeaseState::Held;
        used.layers.push(layer.clone());
        let runner_type = used.runner_type.clone();
        let at = self.at;
        let step = self.step(layer);
        step.lease = Some(lease.clone());
        step.runner_type = Some(runner_type);
        step.enter(at, StepState::Syncing);
        effects.push(phase(layer, StepState::Syncing));
        effects.push(Effect::Sync { layer: layer.clone(), lease });
    }

    /// Whether the run has cost more than it may: another hour has started, or a larger runner was granted than was
    /// requested. Running steps may end; nothing new starts.
    fn is_overspent(&self, at: Timestamp) -> bool {
        self.limits.max_cost_micros.is_some_and(|most| self.bill.micros(at) > most)
    }

    /// The fault if a new lease of this size would exceed the run's maximum cost.
    fn too_dear(&self, at: Timestamp, size: &Size) -> Option<Fault> {
        let most = self.limits.max_cost_micros?;
        let price = self.limits.prices.get(&size.runner_type).copied().unwrap_or(0);
        if self.bill.micros(at).saturating_add(price) <= most {
            return None;
        }
        let message = format!("another {} would exceed `max_cost`", size.runner_type);
        Some(max_cost(message))
    }

    /// The idle lease that a step should use: one on which a parent was built, because the parent's image need not be
    /// fetched again; else the smallest.
    fn idle_for(&self, at: Timestamp, layer: &LayerName) -> Option<LeaseId> {
        let step = &self.steps[layer];
        let idle = self.leases.iter().filter(|(_, lease)| lease.state == LeaseState::Idle);
        idle.filter(|(_, lease)| self.may_use(at, lease, step))
            .min_by_key(|(_, lease)| {
                let without_parent = !step.spec.parents.iter().any(|parent| lease.layers.contains(parent));
                (without_parent, lease.memory_gb, lease.cpu, lease.number)
            })
            .map(|(id, _)| id.clone())
    }

    /// Whether a used lease fits a step and will live as long as the step may take. If no lease lives that long, an old
    /// one is as good as any other.
    pub(super) fn may_use(&self, at: Timestamp, lease: &Lease, step: &Step) -> bool {
        if step.requires_new_lease || lease.expired || !lease.fits(&step.spec.place, step.size()) {
            return false;
        }
        let (Some(usable), true) = (self.limits.usable(), self.limits.budgets) else { return true };
        let budget = Duration::from_secs(u64::from(step.size().time_budget_min) * 60);
        budget > usable || self.life_left(at, lease).is_none_or(|left| left >= budget)
    }

    /// How long a lease may still be used; `None` if it has no end.
    fn life_left(&self, at: Timestamp, lease: &Lease) -> Option<Duration> {
        self.limits.usable().map(|usable| lease.asked.plus(usable).since(at))
    }

    fn open_leases(&self) -> usize {
        self.leases.values().filter(|lease| !lease.state.is_over()).count()
    }

    pub(super) fn granted(
        &mut self,
        at: Timestamp,
        id: LeaseId,
        runner_type: String,
        (cpu, memory_gb): (u32, u32),
        effects: &mut Vec<Effect>,
    ) {
        let Some(lease) = self.leases.get_mut(&id) else { return };
        let LeaseState::Asked { unwanted } = lease.state else { return };
        // A grant is never smaller than the request, whatever the host reports.
        (lease.cpu, lease.memory_gb) = (lease.cpu.max(cpu), lease.memory_gb.max(memory_gb));
        lease.runner_type.clone_from(&runner_type);
        lease.state = LeaseState::Held;
        let asked = lease.asked;
        if let Some(price) = self.limits.prices.get(&runner_type) {
            self.bill.price(&id, asked, *price);
        }
        let (Some(layer), false) = (self.holder(&id), unwanted) else { return self.release(id, effects) };
        if self.is_overspent(at) {
            let message = format!("with the granted {runner_type}, the run would cost more than `max_cost`");
            return self.end(at, &layer, Outcome::Failed, Some(max_cost(message)), None, effects);
        }
        if let Some(after) = self.life_left(at, &self.leases[&id]) {
            effects.push(Effect::Arm { timer: Timer::Lifetime { lease: id.clone() }, after });
        }
        // Requests that are open at the same time are answered in any order: the first runner goes to who asked first.
        let first = self.older_for(at, &layer, &id);
        let user = first.unwrap_or_else(|| layer.clone());
        if user != layer {
            self.step(&layer).lease = self.step(&user).lease.take();
        }
        effects.push(emit(EventBody::LeaseGranted { lease: id.clone(), layer: user.clone(), runner_type }));
        self.put_on(&user, id, effects);
    }

    /// A refused request may have created something all the same, so it is released too.
    pub(super) fn refused(&mut self, at: Timestamp, lease: &LeaseId, fault: Fault, effects: &mut Vec<Effect>) {
        if !self.leases.get(lease).is_some_and(|lease| matches!(lease.state, LeaseState::Asked { .. })) {
            return;
        }
        if fault.class().is_refusal() {
            self.bill.void(lease);
        }
        let layer = self.holder(lease);
        self.release(lease.clone(), effects);
        if let Some(layer) = layer {
            self.step(&layer).lease = None;
            self.retry_or_fail(at, &layer, fault, effects);
        }
    }

    pub(super) fn holder(&self, lease: &LeaseId) -> Option<LayerName> {
        self.steps.iter().find(|(_, step)| step.lease.as_ref() == Some(lease)).map(|(layer, _)| layer.clone())
    }

    /// The lease that a step uses or waits for.
    pub(super) fn held_by(&self, layer: &LayerName) -> Option<&Lease> {
        self.leases.get(self.steps.get(layer)?.lease.as_ref()?)
    }
}

fn overspent() -> Fault {
    max_cost("the run has reached `max_cost`: nothing more is started".to_owned())
}

fn max_cost(message: String) -> Fault {
    Fault::new(FaultKind::Unavailable, "lian::life::max_cost", message)
        .help("raise `runners.max_cost` in the workflow, or build less at once")
}
