//! Leases in every world, by processes that may die at any time: what their ledger knows gives everything back.
//! `LIAN_CHAOS_RUNS` and `LIAN_CHAOS_SEED` say how many and which. Not responsible for: builds (see `chaos`).

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use lian_build::adapters::providers::hcloud::Timeouts;
use lian_build::domain::base::LeaseId;
use lian_build::domain::model::Fault;
use lian_build::domain::ports::{ComputeProvider as _, LeaseRecord, RecordKeeper, Resource};

use super::{Cloud, pace, request, settings};
use crate::chaos::{Dice, number};
use crate::support::hetzner::{LabelTrouble, Troubles};

/// A ledger that outlives its process.
#[derive(Default)]
struct Disk(Mutex<Vec<Resource>>);

#[async_trait]
impl RecordKeeper for Disk {
    async fn keep(&self, _lease: &LeaseId, resource: &Resource) -> Result<(), Fault> {
        self.0.lock().expect("whole").push(resource.clone());
        Ok(())
    }
}

/// What is wrong in a world: its name, and how it is made.
type World = (&'static str, fn(&mut Dice) -> Troubles);

const LAG: Duration = Duration::from_millis(60);

const WORLDS: &[World] = &[
    ("quiet", |_| Troubles::default()),
    ("labels dropped", |_| Troubles { labels: LabelTrouble::Dropped, ..Troubles::default() }),
    ("labels forgotten", |_| Troubles { labels: LabelTrouble::Forgotten, ..Troubles::default() }),
    ("lists lag", |_| Troubles { lag: LAG, ..Troubles::default() }),
    ("labels forgotten and lists lag", |_| Troubles {
        labels: LabelTrouble::Forgotten,
        lag: LAG,
        ..Troubles::default()
    }),
    ("a list fails", |dice| {
        let pick = |dice: &mut Dice| usize::try_from(dice.below(3)).expect("small");
        let list = ["servers", "ssh_keys", "primary_ips"][pick(dice)];
        let how = [(404, "not_found"), (403, "forbidden"), (500, "server_error")][pick(dice)];
        Troubles { lists: [(list, how)].into(), ..Troubles::default() }
    }),
    ("locked for minutes", |dice| Troubles { locked: Duration::from_millis(dice.below(200)), ..Troubles::default() }),
    ("an action of an hour", |_| Troubles { locked: Duration::from_secs(3600), ..Troubles::default() }),
];

#[test]
fn in_every_world_what_a_process_left_goes_back() {
    let least = u64::try_from(WORLDS.len()).expect("few") * 2;
    let (runs, seed) = (number("LIAN_CHAOS_RUNS", least), number("LIAN_CHAOS_SEED", 1));
    let (next, dead) = (Mutex::new(0), Mutex::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let run = {
                        let mut next = next.lock().expect("whole");
                        *next += 1;
                        *next - 1
                    };
                    if run >= runs {
                        return;
                    }
                    *dead.lock().expect("whole") += u64::from(one(run, seed));
                }
            });
        }
    });
    let dead = *dead.lock().expect("whole");
    println!("worlds: runs={runs} killed={dead} leaked=0");
    assert!(runs < least || dead > 0, "nothing was ever killed");
}

/// One lease in one world; whether its process was killed while it was at it.
fn one(run: u64, seed: u64) -> bool {
    let mut dice = Dice::of(seed.wrapping_add(run.wrapping_mul(0x1_0000_0001)));
    let (name, troubles) = WORLDS[usize::try_from(run).expect("small") % WORLDS.len()];
    let told = format!("run {run}, seed {seed}, {name}");
    let cloud = Cloud::new();
    cloud.fake.troubled(troubles(&mut dice));
    cloud.fake.chaos(dice.seed(), [0, 50][usize::try_from(dice.below(2)).expect("small")]);
    let ms = Duration::from_millis;
    let pace = Timeouts { boot: ms(400), settle: ms(400), lag: 3 * LAG, ..pace() };
    let disk = Arc::new(Disk::default());
    let lease = LeaseId::from("r-1");
    // The process that rents. Its runtime ends with it, whatever it is at.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let (provider, kept) = (Arc::new(cloud.of(settings(), "ann", pace)), Arc::clone(&disk));
    let (work, until) = (lease.clone(), dice.below(2).eq(&0).then(|| ms(dice.below(60))));
    let process = runtime.spawn(async move {
        let record = LeaseRecord::kept(work.clone(), kept);
        let acquired = provider.acquire(&request("r-1"), &record).await;
        for _ in 0..2 {
            if provider.release(&work, &record).await.is_ok() {
                return (acquired.is_ok(), true);
            }
        }
        (acquired.is_ok(), false)
    });
    let ended = runtime.block_on(async {
        match until {
            Some(until) => tokio::time::timeout(until, process).await.ok(),
            None => Some(process.await),
        }
    });
    runtime.shutdown_background();
    let released = matches!(ended, Some(Ok((_, true))));
    if released {
        assert!(cloud.fake.everything_gone().is_empty(), "{told}: given back: {:?}", cloud.fake.everything_gone());
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while !cloud.fake.is_idle() {
        assert!(Instant::now() < deadline, "{told}: a request is never answered");
        std::thread::sleep(ms(1));
    }
    // A later command, when all is well again, but for labels that are gone: it looks twice, as `recover` does.
    cloud.fake.chaos(0, 0);
    cloud.fake.troubled(Troubles::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let record = LeaseRecord::read(disk.0.lock().expect("whole").clone());
    let later = cloud.of(settings(), "ann", super::pace());
    for _ in 0..2 {
        let gone = runtime.block_on(later.release(&lease, &record));
        assert!(gone.is_ok(), "{told}: {gone:?}");
    }
    assert!(cloud.fake.everything_gone().is_empty(), "{told}: {:?} {record:?}", cloud.fake.everything_gone());
    ended.is_none()
}
