//! Properties that must hold in every run, tested with random worlds (see `world`) over a million inputs and more. Not
//! responsible for: examples of single runs (see `examples`).

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::pieces::{PLATFORMS, SIZES, layer, place, price, size};
use super::world::World;
use super::*;
use crate::domain::base::{Digest, RunId, Timestamp};
use crate::domain::model::Outcome;

/// Random layers whose parents come before them; some have an image to reuse.
fn specs() -> impl Strategy<Value = Vec<StepSpec>> {
    let parents = prop::collection::vec(any::<prop::sample::Index>(), 0..3);
    let row = (parents, 0..10u8, 1..SIZES, 0..3usize, 0..PLATFORMS * 2);
    prop::collection::vec(row, 1..20).prop_map(|rows| {
        rows.into_iter()
            .enumerate()
            .map(|(index, (parents, reuse, sizes, budget, platform))| {
                let chosen: BTreeSet<usize> =
                    if index == 0 { BTreeSet::new() } else { parents.iter().map(|p| p.index(index)).collect() };
                StepSpec {
                    layer: layer(index),
                    parents: chosen.into_iter().map(layer).collect(),
                    reuse: (reuse < 2).then(|| Digest::of([reuse])),
                    // Most layers are for the first platform, so that leases pass from one to another.
                    place: place(platform.saturating_sub(PLATFORMS)),
                    sizes: (0..sizes).map(|index| size(index, [1, 30, 600][budget])).collect(),
                }
            })
            .collect()
    })
}

fn limits() -> impl Strategy<Value = Limits> {
    let bounds = (0..4usize, prop::option::of(1..200u64), prop::option::of(1..400u64), any::<bool>());
    let packed = (any::<bool>(), any::<bool>());
    (1..4usize, any::<bool>(), packed, bounds).prop_map(|(width, keep_going, (packed, claims), bounds)| {
        let (max_leases, max_cost_micros, minutes, priced) = bounds;
        let prices = (0..SIZES).filter(|_| priced).map(|index| (size(index, 1).runner_type, price(index))).collect();
        let max_lifetime = minutes.map(|minutes| Duration::from_secs(minutes * 60));
        Limits {
            width,
            keep_going,
            packed,
            claims,
            max_leases,
            max_lifetime,
            prices,
            max_cost_micros,
            ..Limits::default()
        }
    })
}

/// Random numbers from a seed (splitmix64): generating a vector of them would take longer than the run.
#[derive(Debug, Clone, Copy)]
struct Dice {
    seed: u64,
    throws: usize,
    /// A byte of the number, multiplied by this many milliseconds.
    pace: u64,
    /// Numbers from this one on mean failure.
    bad: u8,
}

impl Dice {
    fn throws(self) -> impl Iterator<Item = (usize, u8, u8)> {
        let mut state = self.seed;
        (0..self.throws).map(move |_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let [a, b, c, d, ..] = (z ^ (z >> 31)).to_le_bytes();
            (usize::from(u16::from_le_bytes([a, b])), c, d)
        })
    }
}

fn dice(most: usize) -> impl Strategy<Value = Dice> {
    let pace = prop_oneof![Just(10u64), Just(500), Just(5_000)];
    let bad = prop_oneof![Just(190u8), Just(230), Just(250)];
    (any::<u64>(), 0..most, pace, bad).prop_map(|(seed, throws, pace, bad)| Dice { seed, throws, pace, bad })
}

/// Plays a run against a world, then answers everything that is pending well, before any budget ends or any hour
/// starts.
fn simulate(specs: &[StepSpec], limits: &Limits, hosts: Option<Vec<usize>>, dice: Dice) -> (World, Run) {
    let mut run = Run::new(RunId::from("r"), specs.to_vec(), limits.clone());
    let mut world = World::new(specs, limits.clone(), hosts, dice.bad);
    let mut at = Timestamp(1_000);
    let feed = |run: &mut Run, world: &mut World, at: Timestamp, input: Input| {
        world.inputs += usize::from(!run.is_finished());
        world.told(at, &input);
        let effects = run.on(at, input);
        world.perform(at, effects);
    };
    feed(&mut run, &mut world, at, Input::Begin);
    for (pick, good, odd) in dice.throws() {
        at = at.plus(Duration::from_millis(u64::from(odd) * dice.pace));
        match odd {
            0 if good % 8 == 0 => feed(&mut run, &mut world, at, Input::Stop { level: StopLevel::Cancel }),
            1 if good % 16 == 0 => feed(&mut run, &mut world, at, Input::Stop { level: StopLevel::Kill }),
            1 if good % 64 == 1 => feed(&mut run, &mut world, at, Input::Stop { level: StopLevel::Leave }),
            2..=20 => feed(&mut run, &mut world, at, pieces::stray(good)),
            _ => {
                if let Some(input) = world.answer(pick, good) {
                    feed(&mut run, &mut world, at, input);
                }
            }
        }
        if run.is_finished() {
            break;
        }
    }
    if run.was_left() {
        // What was under way is answered to nobody.
        return (world, run);
    }
    world.patient = true;
    let mut rounds = 0;
    while let Some(input) = world.answer(0, 100) {
        feed(&mut run, &mut world, at, input);
        rounds += 1;
        assert!(rounds < 10_000, "the run never ends");
    }
    (world, run)
}

/// Which step got which runner, in a run whose open claims are answered before anything else, the next one by `turns`.
/// Other runs hold the keys of the layers whose bit is set in `taken`.
fn assigned(specs: &[StepSpec], limits: &Limits, taken: u32, mut turns: u64) -> Vec<Effect> {
    let mut run = Run::new(RunId::from("r"), specs.to_vec(), limits.clone());
    let (at, mut owed, mut assigned) = (Timestamp(1_000), Vec::new(), Vec::new());
    let mut input = Some(Input::Begin);
    while let Some(next) = input {
        for effect in run.on(at, next) {
            match effect {
                Effect::Acquire { .. } | Effect::Sync { .. } => assigned.push(effect.clone()),
                Effect::Kill { ref layer, .. } => owed.retain(|owed| !pieces::is_work_of(owed, layer)),
                _ => {}
            }
            owed.push(effect);
        }
        owed.retain(|effect| pieces::well(effect, taken).is_some());
        let claims = owed.iter().filter(|effect| matches!(effect, Effect::Claim { .. })).count();
        // What is not a claim is answered in an order that does not hang on when it was wanted.
        owed.sort_by_key(|effect| (!matches!(effect, Effect::Claim { .. }), format!("{effect:?}")));
        let pick = (turns % claims.max(1) as u64) as usize;
        turns = turns.rotate_right(7);
        input = (!owed.is_empty()).then(|| owed.remove(pick)).and_then(|effect| pieces::well(&effect, taken));
    }
    assert!(run.is_finished(), "the run waits for ever");
    assigned
}

/// Hosts of a fixed list, as numbers of placement and size: the largest of each platform, and some more.
fn hosts() -> impl Strategy<Value = Option<Vec<usize>>> {
    let more = prop::collection::vec(0..PLATFORMS * SIZES, 0..3);
    let all = more.prop_map(|mut more| {
        more.extend((0..PLATFORMS).map(|platform| platform * SIZES + SIZES - 1));
        more.sort_by_key(|host| host % SIZES);
        more
    });
    prop::option::of(all)
}

#[test]
fn every_run_ends_and_every_lease_comes_home_over_a_million_inputs() {
    let inputs = Cell::new(0);
    let config = ProptestConfig { cases: 40_000, failure_persistence: None, ..ProptestConfig::default() };
    let tried =
        TestRunner::new(config).run(&(specs(), limits(), hosts(), dice(400)), |(specs, limits, hosts, dice)| {
            let (world, run) = simulate(&specs, &limits, hosts, dice);
            prop_assert!(world.finished && run.is_finished(), "a run waits for ever");
            let stuck: BTreeSet<_> = run.stuck().cloned().collect();
            let left = if run.was_left() { world.open() } else { world.held.clone() };
            prop_assert_eq!(&left, &stuck, "held at the end and not reported stuck");
            prop_assert!(world.given_back.values().all(|count| *count == 1), "{:?}", world.given_back);
            inputs.set(inputs.get() + world.inputs);
            Ok(())
        });
    if let Err(failed) = tried {
        panic!("{failed}");
    }
    assert!(inputs.get() >= 1_000_000, "only {} inputs", inputs.get());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn replaying_the_inputs_gives_the_same_run(specs in specs(), limits in limits(), dice in dice(200)) {
        let begun = Run::new(RunId::from("r"), specs.clone(), limits.clone());
        let (world, run) = simulate(&specs, &limits, None, dice);
        let json = serde_json::to_string(&(begun, &world.journal)).expect("plain data");
        let (mut again, journal): (Run, Vec<(Timestamp, Input)>) = serde_json::from_str(&json).expect("plain data");
        for (at, input) in journal {
            again.on(at, input);
        }
        prop_assert_eq!(again, run);
    }

    #[test]
    fn whichever_claim_is_answered_first_the_same_steps_get_the_same_runners(
        specs in specs(),
        limits in limits(),
        turns in any::<u64>(),
    ) {
        let limits = Limits { claims: true, max_lifetime: None, ..limits };
        let in_order = assigned(&specs, &limits, 0, 0);
        prop_assert_eq!(in_order, assigned(&specs, &limits, 0, turns));
    }

    #[test]
    fn without_faults_or_stops_everything_is_built(
        specs in specs(),
        width in 1..4usize,
        packed: bool,
        max_leases in 0..3usize,
        hosts in hosts(),
    ) {
        let limits = Limits { width, packed, max_leases, ..Limits::default() };
        let (world, run) = simulate(&specs, &limits, hosts, Dice { seed: 0, throws: 0, pace: 0, bad: 255 });
        prop_assert_eq!(run.outcome(), crate::domain::model::RunOutcome::Success);
        prop_assert!(world.ended.values().all(|outcome| matches!(outcome, Outcome::Built | Outcome::Reused)));
    }
}
