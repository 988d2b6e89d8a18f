//! Many runs of a small catalog through random kills, each in one of the `worlds`: afterwards nothing is left at the
//! provider, and no event is lost. `make chaos RUNS=10000 SEED=n`; a short one in every test run.
//!
//! Runs come in chains of a few, one after another in one project: what one leaves, the next one finds. Chains share nothing,
//! and go on side by side. A chain's number is all that decides it, so one command repeats one that fails.

mod blows;
mod events;
mod hosts;
mod node;
mod pool;
mod run;
mod stage;
mod worlds;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use stage::Stage;
use worlds::{WORLDS, World};

/// How many runs a chain has.
const CHAIN: u64 = 8;

/// xorshift64*: the same seed, the same blows.
pub struct Dice(u64);

impl Dice {
    /// The dice of a seed.
    pub fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// For somebody else's dice.
    pub fn seed(&mut self) -> u64 {
        self.below(1 << 40)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        let bound = u64::try_from(all.len()).expect("few");
        &all[usize::try_from(self.below(bound)).expect("small")]
    }
}

/// What all runs came to.
#[derive(Debug, Default)]
struct Tally {
    runs: u64,
    /// Ended with 0.
    done: u64,
    killed: u64,
    rented: usize,
    faults: usize,
    leaked: usize,
    lost_events: usize,
    /// Chains that ended in a failure.
    failed: u64,
}

pub fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn whatever_befalls_a_run_nothing_is_left_and_no_event_is_lost() {
    let least = u64::try_from(WORLDS.len()).expect("few").next_multiple_of(CHAIN);
    let (runs, seed, jobs) =
        (number("LIAN_CHAOS_RUNS", least), number("LIAN_CHAOS_SEED", 1), number("LIAN_CHAOS_JOBS", 4).max(1));
    println!("chaos: {runs} runs, seed {seed}, {jobs} at once");
    let (tally, next) = (Mutex::new(Tally::default()), Mutex::new(0));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let nth = {
                        let mut next = next.lock().expect("whole");
                        *next += 1;
                        *next - 1
                    };
                    let length = runs.saturating_sub(nth * CHAIN).min(CHAIN);
                    if length == 0 {
                        return;
                    }
                    chain(seed + nth, length, &tally);
                }
            });
        }
    });
    let Tally { runs, done, killed, rented, faults, leaked, lost_events, failed } =
        tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("runs={runs} killed={killed} faults={faults} leaked={leaked} lost_events={lost_events} failed={failed}");
    assert_eq!((leaked, lost_events, failed), (0, 0, 0), "see the lines above");
    if runs >= least {
        assert!(
            done > 0 && rented > 0 && faults > 0 && killed > 0,
            "chaos that befalls nothing: {done} done, {rented} rented"
        );
    }
}

/// One chain of runs. Its failure is told, and ends no other chain.
fn chain(number: u64, length: u64, tally: &Mutex<Tally>) {
    let at = Mutex::new(String::from("at its beginning"));
    let failure = catch_unwind(AssertUnwindSafe(|| {
        let stage = Stage::new();
        let mut dice = Dice::of(number);
        for run in 0..length {
            let world = world(number, run);
            *at.lock().expect("whole") = format!("in run {run}, {}", world.name);
            run::one(&stage, &mut dice, (number, run), world, tally);
        }
        *at.lock().expect("whole") = "at its end".to_owned();
        let (left, said) = stage.left_at_the_end();
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.faults += stage.faults();
        tally.rented += stage.cloud.fake.bills().len();
        tally.leaked += left.len();
        assert!(left.is_empty(), "left: {left:?}\n{said}");
        stage.cloud.is_empty();
    }));
    let Err(failure) = failure else { return };
    tally.lock().unwrap_or_else(PoisonError::into_inner).failed += 1;
    let at = at.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!(
        "chaos: FAILED {at}; again: make chaos RUNS={length} JOBS=1 SEED={number}: {}",
        words(&*failure).replace('\n', "\nchaos: | ")
    );
}

/// Each world has its turn, though there are few runs, and each meets every place in a chain.
fn world(chain: u64, run: u64) -> &'static World {
    let count = u64::try_from(WORLDS.len()).expect("few");
    &WORLDS[usize::try_from((chain * CHAIN + run + chain / count) % count).expect("small")]
}

fn words(failure: &(dyn Any + Send)) -> String {
    let text = failure.downcast_ref::<String>().map(String::as_str).or_else(|| failure.downcast_ref::<&str>().copied());
    text.unwrap_or("it does not say why").to_owned()
}
