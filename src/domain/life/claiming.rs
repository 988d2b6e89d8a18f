//! The claim on a step's key, which comes before its runner: a run that waits for another one pays for nothing. Not
//! responsible for: what a claim is (see `ports::ImageStore`).

use super::effect::Effect;
use super::run::{Run, phase};
use super::step::{CancelReason, Step, StepState};
use crate::domain::base::{Digest, LayerName, Timestamp};
use crate::domain::model::Outcome;

impl Run {
    /// Claims a ready step's key, unless it could get no lease now: a claim that waits would hold up other runs.
    /// Leases that steps with open or answered claims are about to take are not for it. Returns whether it does.
    pub(super) fn claim(&mut self, at: Timestamp, layer: &LayerName, effects: &mut Vec<Effect>) -> bool {
        let before = self.steps.values().filter(|step| step.state == StepState::Claiming || step.is_claimed_only());
        let before = before.count();
        if !self.may_get_lease(at, layer, before) {
            // An idle lease may be the one that a step before it is about to take.
            if before == 0 {
                self.make_room(effects);
            }
            return false;
        }
        self.step(layer).enter(at, StepState::Claiming);
        effects.push(Effect::Claim { layer: layer.clone() });
        true
    }

    pub(super) fn claimed(&mut self, at: Timestamp, layer: &LayerName) {
        if let Some(step) = self.in_any(layer, &[StepState::Claiming, StepState::Contended]) {
            step.claimed = true;
            step.enter(at, StepState::Ready);
        }
    }

    /// Another run builds the key. This step waits for it, and lets others have its place.
    pub(super) fn claim_taken(&mut self, at: Timestamp, layer: &LayerName, effects: &mut Vec<Effect>) {
        if let Some(step) = self.in_state(layer, StepState::Claiming) {
            step.enter(at, StepState::Contended);
            effects.push(phase(layer, StepState::Contended));
            effects.push(Effect::AwaitClaim { layer: layer.clone() });
        }
    }

    /// Another run has built the key: its image is this step's.
    pub(super) fn found(&mut self, at: Timestamp, layer: &LayerName, digest: Digest, effects: &mut Vec<Effect>) {
        // In journals from before claims came first, it was found while building.
        let states = [StepState::Claiming, StepState::Contended, StepState::Building];
        if let Some(step) = self.in_any(layer, &states) {
            step.digest = Some(digest);
            self.end(at, layer, Outcome::Reused, None, None, effects);
        }
    }

    /// The step, if it is in one of these states and is not being cancelled.
    fn in_any(&mut self, layer: &LayerName, states: &[StepState]) -> Option<&mut Step> {
        self.steps.get_mut(layer).filter(|step| states.contains(&step.state) && step.doom.is_none())
    }

    /// Ends the waiting for other runs: nothing more is started.
    pub(super) fn stop_contending(&mut self, effects: &mut Vec<Effect>) {
        for layer in self.order.clone() {
            let step = self.step(&layer);
            if step.state == StepState::Contended && step.doom.is_none() {
                step.doom = Some(CancelReason::Closed);
                effects.push(Effect::Kill { layer, hard: false });
            }
        }
    }

    /// Whether an idle lease is worth keeping for a step in this state. A step that waits for another run needs none,
    /// and that run may wait for the very runner. Then what waits for its parents counts only while a step of this run
    /// is at work.
    pub(super) fn may_need_lease(&self, state: StepState) -> bool {
        let any = |wanted: &[StepState]| self.steps.values().any(|step| wanted.contains(&step.state));
        let at_work = [StepState::Syncing, StepState::Building, StepState::Verifying, StepState::Recording];
        match state {
            StepState::Ready | StepState::Claiming | StepState::Pausing => true,
            StepState::Waiting => !any(&[StepState::Contended]) || any(&at_work),
            _ => false,
        }
    }
}
