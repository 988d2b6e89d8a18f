//! What must always hold, tried with a random world: graphs, answers, faults, kills, stray and repeated inputs.
//! Refuses: examples of single paths.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::base::{Digest, LayerName, LeaseId, RunId, Timestamp};
use crate::model::{EventBody, Fault, FaultKind, Outcome, Size};

fn size(index: usize) -> Size {
    Size {
        runner_type: format!("t{index}"),
        cpu: 2 << index,
        memory_gb: 4 << index,
        time_budget_min: 30,
        tier: "language_default".to_owned(),
    }
}

fn price(size: &Size) -> u64 {
    u64::from(size.cpu)
}

fn layer(index: usize) -> LayerName {
    LayerName::new(format!("l{index:02}"))
}

/// Layers whose parents come before them, with some reusable.
fn specs() -> impl Strategy<Value = Vec<StepSpec>> {
    prop::collection::vec((prop::collection::vec(any::<prop::sample::Index>(), 0..3), 0..10u8, 1..4usize), 1..9)
        .prop_map(|rows| {
            rows.into_iter()
                .enumerate()
                .map(|(index, (parents, reuse, sizes))| {
                    let chosen: BTreeSet<usize> =
                        if index == 0 { BTreeSet::new() } else { parents.iter().map(|p| p.index(index)).collect() };
                    StepSpec {
                        layer: layer(index),
                        parents: chosen.into_iter().map(layer).collect(),
                        reuse: (reuse < 2).then(|| Digest::of([reuse])),
                        sizes: (0..sizes).map(size).collect(),
                    }
                })
                .collect()
        })
}

/// What the world owes the run: one answer for each effect that wants one.
#[derive(Default)]
struct World {
    owed: Vec<Effect>,
    acquired: BTreeSet<LeaseId>,
    held: BTreeSet<LeaseId>,
    given_back: BTreeMap<LeaseId, usize>,
    ended: BTreeMap<LayerName, Outcome>,
    oom_retries: BTreeMap<LayerName, u32>,
    attempts: BTreeMap<LayerName, Vec<String>>,
    active: BTreeSet<LayerName>,
    /// Leases that a step is on, and which.
    busy: BTreeSet<LeaseId>,
    on: BTreeMap<LayerName, LeaseId>,
    max_leases: usize,
    spent: u64,
    /// A lease that could not be given back does not count any more.
    stuck: bool,
    finished: bool,
    patient: bool,
    journal: Vec<(Timestamp, Input)>,
}

impl World {
    /// What has been granted may not cost more than the run may: no run here lasts an hour.
    fn within(&self, limits: &Limits) {
        if let Some(most) = limits.max_cost_micros {
            assert!(self.spent <= most, "{} spent of {most}", self.spent);
        }
    }

    fn perform(&mut self, specs: &[StepSpec], width: usize, effects: Vec<Effect>) {
        for effect in effects {
            assert!(!self.finished, "an effect follows Finish: {effect:?}");
            match &effect {
                Effect::Emit(body) => self.hear(specs, body),
                Effect::Acquire { lease, layer, size } => {
                    assert!(self.acquired.insert(lease.clone()), "{lease} is asked for twice");
                    let open = self.acquired.len() - self.given_back.len();
                    assert!(self.max_leases == 0 || open <= self.max_leases || self.stuck, "{open} leases at once");
                    self.attempts.entry(layer.clone()).or_default().push(size.runner_type.clone());
                    self.active.insert(layer.clone());
                    assert!(self.active.len() <= width, "wider than {width}: {:?}", self.active);
                    self.parents_ended_well(specs, layer);
                    self.owed.push(effect);
                }
                Effect::Sync { layer, lease } => {
                    assert!(self.held.contains(lease), "{layer} is on {lease}, which is not held");
                    assert!(self.busy.insert(lease.clone()), "two steps at once are on {lease}");
                    self.active.insert(layer.clone());
                    assert!(self.active.len() <= width, "wider than {width}: {:?}", self.active);
                    self.parents_ended_well(specs, layer);
                    self.on.insert(layer.clone(), lease.clone());
                    self.owed.push(effect);
                }
                Effect::Release { lease } => {
                    self.busy.remove(lease);
                    assert!(self.held.contains(lease), "{lease} is released but not held");
                    self.owed.push(effect);
                }
                Effect::Abandon { lease } => assert!(!self.given_back.contains_key(lease), "{lease} is gone"),
                Effect::Finish => {
                    self.finished = true;
                    assert_eq!(self.ended.len(), specs.len(), "a step is left at Finish");
                }
                _ => self.owed.push(effect),
            }
        }
    }

    fn parents_ended_well(&self, specs: &[StepSpec], layer: &LayerName) {
        let spec = specs.iter().find(|spec| spec.layer == *layer).expect("known");
        for parent in &spec.parents {
            let outcome = self.ended.get(parent);
            assert!(matches!(outcome, Some(Outcome::Built | Outcome::Reused)), "{layer} starts before {parent}");
        }
    }

    fn hear(&mut self, specs: &[StepSpec], body: &EventBody) {
        match body {
            EventBody::StepFinished(end) => {
                assert!(self.ended.insert(end.layer.clone(), end.outcome).is_none(), "{} ends twice", end.layer);
                self.leave(&end.layer);
                if end.outcome == Outcome::Skipped && end.because.is_some() {
                    let spec = specs.iter().find(|spec| spec.layer == end.layer).expect("known");
                    assert!(!spec.parents.is_empty(), "{} is skipped but has no parent", end.layer);
                }
            }
            EventBody::StepRetried { layer, fault, .. } => {
                if fault.kind == FaultKind::OutOfMemory {
                    let count = self.oom_retries.entry(layer.clone()).or_default();
                    *count += 1;
                    assert!(*count <= MAX_OOM_RETRIES, "{layer}: more than one OOM retry");
                }
                self.leave(layer);
            }
            EventBody::LeaseStuck { .. } => self.stuck = true,
            _ => {}
        }
    }

    fn leave(&mut self, layer: &LayerName) {
        self.active.remove(layer);
        if let Some(lease) = self.on.remove(layer) {
            self.busy.remove(&lease);
        }
    }

    /// Answers one owed effect, well or badly as the dice say.
    fn answer(&mut self, pick: usize, dice: u8) -> Option<Input> {
        if self.owed.is_empty() {
            return None;
        }
        let pick =
            if self.patient { self.owed.iter().position(|owed| !is_budget(owed))? } else { pick % self.owed.len() };
        let effect = self.owed.remove(pick);
        let kind = match dice % 5 {
            0 => FaultKind::OutOfMemory,
            1 => FaultKind::Infrastructure,
            _ => FaultKind::Build,
        };
        let fault = Fault::new(kind, "lian::test", "dice");
        let bad = dice >= 190;
        Some(match effect {
            // What was refused may exist all the same: a request whose answer was lost.
            Effect::Acquire { lease, .. } if bad => {
                self.held.insert(lease.clone());
                Input::LeaseRefused { lease, fault }
            }
            Effect::Acquire { lease, size, .. } => {
                self.held.insert(lease.clone());
                self.spent += price(&size);
                Input::LeaseGranted { lease, runner_type: size.runner_type }
            }
            Effect::Release { lease } if bad => Input::ReleaseFailed { lease, message: "dice".into() },
            Effect::Release { lease } => {
                *self.given_back.entry(lease.clone()).or_default() += 1;
                self.held.remove(&lease);
                Input::Released { lease }
            }
            Effect::Arm { timer, .. } => Input::TimerFired { timer },
            Effect::Kill { layer, .. } => Input::Killed { layer },
            Effect::Sync { layer, .. } | Effect::Build { layer, .. } | Effect::Verify { layer, .. } if bad => {
                Input::Faulted { layer, fault }
            }
            Effect::Promote { layer } if bad => Input::Faulted { layer, fault },
            Effect::Sync { layer, .. } => Input::Synced { layer },
            Effect::Build { layer, .. } if dice.is_multiple_of(16) => {
                Input::Found { layer, digest: Digest::of([dice]) }
            }
            Effect::Build { layer, .. } => {
                Input::BuildDone { layer, digest: Digest::of([dice]), steps: 3, cached: 1, measured: None }
            }
            Effect::Verify { layer, .. } => Input::Verified { layer },
            Effect::Promote { layer } => Input::Promoted { layer },
            Effect::Record { layer, .. } => Input::Recorded { layer },
            Effect::Emit(_) | Effect::Abandon { .. } | Effect::Finish => return None,
        })
    }
}

fn is_budget(effect: &Effect) -> bool {
    matches!(effect, Effect::Arm { timer: Timer::Budget { .. } | Timer::Lifetime { .. }, .. })
}

/// An input that nobody owes: about things unknown, over or never asked for.
fn stray(dice: u8) -> Input {
    let layer = layer(usize::from(dice % 12));
    let lease = LeaseId::new(format!("r-l{:02}-{}", dice % 9, 7));
    match dice % 6 {
        0 => Input::LeaseGranted { lease, runner_type: "t0".into() },
        1 => Input::Released { lease },
        2 => Input::ReleaseFailed { lease, message: "stray".into() },
        3 => Input::TimerFired { timer: Timer::Budget { layer, attempt: 99 } },
        4 => Input::Begin,
        _ => Input::LeaseRefused { lease, fault: Fault::new(FaultKind::Build, "lian::test", "stray") },
    }
}

fn simulate(specs: &[StepSpec], limits: Limits, dice: &[(u16, u8, u8)]) -> (World, Run) {
    let width = limits.width;
    let (max_leases, bounds) = (limits.max_leases, limits.clone());
    let mut run = Run::new(RunId::from("r"), specs.to_vec(), limits);
    let mut world = World { max_leases, ..World::default() };
    let mut at = Timestamp(1_000);
    let feed = |run: &mut Run, world: &mut World, at: Timestamp, input: Input| {
        world.journal.push((at, input.clone()));
        let effects = run.on(at, input);
        world.perform(specs, width, effects);
        world.within(&bounds);
    };
    feed(&mut run, &mut world, at, Input::Begin);
    for (pick, good, odd) in dice {
        at = at.plus(Duration::from_millis(u64::from(*odd)));
        match odd {
            0 => feed(&mut run, &mut world, at, Input::Stop { level: StopLevel::Cancel }),
            1 if good % 4 == 0 => feed(&mut run, &mut world, at, Input::Stop { level: StopLevel::Kill }),
            2..=20 => feed(&mut run, &mut world, at, stray(*good)),
            _ => {
                if let Some(input) = world.answer(usize::from(*pick), *good) {
                    feed(&mut run, &mut world, at, input);
                }
            }
        }
    }
    // Whatever is owed is answered in the end, and no budget runs out before it: such a world lets every run finish.
    world.patient = true;
    let mut rounds = 0;
    while let Some(input) = world.answer(0, 100) {
        feed(&mut run, &mut world, at, input);
        rounds += 1;
        assert!(rounds < 10_000, "the run never ends");
    }
    (world, run)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6_000, ..ProptestConfig::default() })]

    #[test]
    fn every_run_ends_and_every_lease_comes_home(
        specs in specs(),
        width in 1..4usize,
        keep_going: bool,
        packed: bool,
        max_leases in 0..4usize,
        max_cost_micros in prop::option::of(1..40u64),
        dice in prop::collection::vec((any::<u16>(), any::<u8>(), any::<u8>()), 0..400),
    ) {
        let prices = (0..4).map(|index| (size(index).runner_type, price(&size(index)))).collect();
        let max_lifetime = Some(Duration::from_secs(60));
        let limits =
            Limits { width, keep_going, packed, max_leases, max_lifetime, prices, max_cost_micros, ..Limits::default() };
        let (world, run) = simulate(&specs, limits, &dice);
        prop_assert!(world.finished && run.is_finished());
        let stuck: BTreeSet<_> = run.stuck().cloned().collect();
        prop_assert_eq!(&world.held, &stuck, "held at the end and not reported stuck");
        prop_assert!(world.given_back.values().all(|count| *count == 1), "{:?}", world.given_back);
        for (layer, sizes) in &world.attempts {
            let distinct: BTreeSet<_> = sizes.iter().collect();
            prop_assert!(distinct.len() <= 1 + MAX_OOM_RETRIES as usize, "{layer}: {sizes:?}");
        }
    }

    #[test]
    fn replaying_the_inputs_gives_the_same_run(
        specs in specs(),
        dice in prop::collection::vec((any::<u16>(), any::<u8>(), any::<u8>()), 0..200),
    ) {
        let limits = Limits { width: 2, packed: true, ..Limits::default() };
        let (world, run) = simulate(&specs, limits.clone(), &dice);
        let json = serde_json::to_string(&world.journal).expect("plain data");
        let journal: Vec<(Timestamp, Input)> = serde_json::from_str(&json).expect("plain data");
        let mut again = Run::new(RunId::from("r"), specs, limits);
        for (at, input) in journal {
            again.on(at, input);
        }
        prop_assert_eq!(again, run);
    }

    #[test]
    fn without_faults_or_stops_everything_is_built(specs in specs(), width in 1..4usize, max_leases in 0..3usize) {
        let limits = Limits { width, packed: true, max_leases, ..Limits::default() };
        let (world, run) = simulate(&specs, limits, &[]);
        prop_assert_eq!(run.outcome(), crate::model::RunOutcome::Success);
        prop_assert!(world.ended.values().all(|outcome| matches!(outcome, Outcome::Built | Outcome::Reused)));
    }
}
