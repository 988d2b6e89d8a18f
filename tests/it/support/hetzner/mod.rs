//! A Hetzner Cloud project on 127.0.0.1, stricter than the real one, whose servers are real machines. Not responsible for: knowing who
//! asks it.

mod api;
mod create;
mod faults;
mod market;
mod rules;
mod serve;
mod state;
mod stub;
mod troubles;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub use faults::{FaultPlan, Kind};
pub use stub::Invented;
pub use troubles::{LabelTrouble, Troubles};

use super::machines::Machines;
use faults::Faults;
use state::World;

/// The token that may do everything.
pub const TOKEN: &str = "fake-token-that-may-write";
/// Another token of the same project that may do everything.
pub const RENEWED: &str = "fake-token-that-was-renewed";
/// The token that may only look.
pub const READ_ONLY: &str = "fake-token-that-may-read";

/// What the threads share.
struct Shared {
    world: Mutex<World>,
    faults: Mutex<Faults>,
    seen: Mutex<Vec<Seen>>,
    machines: Arc<dyn Machines>,
    /// Requests that are being answered.
    busy: std::sync::atomic::AtomicUsize,
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `DELETE /servers/{id}`.
    pub what: String,
    /// What followed the path.
    pub query: Vec<(String, String)>,
    /// When.
    pub at: Instant,
}

/// A server, as a test looks at it.
#[derive(Debug, Clone)]
pub struct ServerView {
    pub id: u64,
    pub name: String,
    pub server_type: String,
    pub location: String,
    pub labels: BTreeMap<String, String>,
    /// sshd's public key, as the machine told it.
    pub host_key: String,
    /// What it was told at its first boot.
    pub user_data: String,
}

/// What was billed for a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bill {
    pub name: String,
    /// Started hours.
    pub hours: u64,
}

/// The fake. It ends, with its machines, when dropped.
pub struct Fake {
    shared: Arc<Shared>,
    endpoint: String,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fake {
    /// Starts one with nothing in it.
    pub fn start(machines: Arc<dyn Machines>) -> Self {
        let shared = Arc::new(Shared {
            world: Mutex::new(World::new()),
            faults: Mutex::default(),
            seen: Mutex::default(),
            machines,
            busy: std::sync::atomic::AtomicUsize::new(0),
        });
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (told, port) = std::sync::mpsc::channel();
        let inside = Arc::clone(&shared);
        let thread = std::thread::spawn(move || serve::run(inside, &told, stopped));
        let port: u16 = port.recv().expect("the fake listens");
        Self { shared, endpoint: format!("http://127.0.0.1:{port}/v1"), stop: Some(stop), thread: Some(thread) }
    }

    /// For HCLOUD_ENDPOINT.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The next request that fits fails so.
    pub fn fail_next(&self, plan: FaultPlan) {
        if let Kind::SoldOut { server_type, location } = &plan.kind {
            self.world().sold_out.insert((server_type.clone(), location.clone()));
        } else {
            locked(&self.shared.faults).plan(plan);
        }
    }

    /// How many requests failed on demand or by chance.
    pub fn faults(&self) -> usize {
        locked(&self.shared.faults).count()
    }

    /// No fault waits any more.
    pub fn forgive(&self) {
        locked(&self.shared.faults).forget();
    }

    /// From now on so many of a thousand requests fail, in a way that the seed decides; 0 ends it.
    pub fn chaos(&self, seed: u64, permille: u64) {
        locked(&self.shared.faults).chaos(seed, permille);
    }

    /// From now on this is wrong with the API; the default is nothing.
    pub fn troubled(&self, troubles: Troubles) {
        self.world().troubles = troubles;
    }

    /// Actions are over when they were looked at so often.
    pub fn actions_take(&self, looks: u32) {
        self.world().looks = looks;
    }

    /// From now on its clock is so many seconds ahead of this machine's; behind it where that is negative.
    pub fn clock_ahead(&self, seconds: i64) {
        self.world().clock = seconds;
    }

    /// The time by its clock, Unix seconds.
    pub fn seconds(&self) -> i64 {
        state::seconds(self.world().clock)
    }

    /// Whether server types tell their prices.
    pub fn tells_prices(&self, tells: bool) {
        self.world().tells_prices = tells;
    }

    /// So many machines to come have another host key than the one they were told, as though somebody else answered for
    /// them.
    pub fn answers_with_other_keys(&self, machines: u32) {
        self.world().others_keys = machines;
    }

    /// Somebody deletes a server that has no machine.
    pub fn remove_server(&self, name: &str) {
        self.world().servers.retain(|_, server| server.name != name || server.is_booted());
    }

    /// So many requests are left of this hour's.
    pub fn budget(&self, left: u32) {
        self.world().budget.set(left);
    }

    /// A server that somebody else made.
    pub fn add_server(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.world().add_server(name, market::labels(labels))
    }

    /// Whether no request is being answered.
    pub fn is_idle(&self) -> bool {
        self.shared.busy.load(std::sync::atomic::Ordering::SeqCst) == 0
    }

    /// Somebody takes all labels away.
    pub fn unlabel(&self) {
        let mut world = self.world();
        world.servers.values_mut().for_each(|server| server.labels.clear());
        world.keys.values_mut().for_each(|key| key.labels.clear());
    }

    /// Somebody gives a server another name.
    pub fn rename(&self, id: u64, name: &str) {
        self.world().servers.get_mut(&id).expect("a server").name = name.to_owned();
    }

    /// An address that stays when its server goes.
    pub fn add_primary_ip(&self, labels: &[(&str, &str)]) -> u64 {
        self.world().add_ip(market::labels(labels))
    }

    /// The servers that are there.
    pub fn servers(&self) -> Vec<ServerView> {
        self.world().servers.values().map(state::Server::view).collect()
    }

    /// The names of the keys that are there.
    pub fn keys(&self) -> Vec<String> {
        self.world().keys.values().map(|key| key.name.clone()).collect()
    }

    /// Everything that still costs, or lies about.
    pub fn everything_gone(&self) -> Vec<String> {
        self.world().left()
    }

    /// What is billed, gone servers too.
    pub fn bills(&self) -> Vec<Bill> {
        self.world().bills()
    }

    /// All requests, oldest first.
    pub fn requests(&self) -> Vec<Seen> {
        locked(&self.shared.seen).clone()
    }

    /// When requests of this kind came (`POST /servers`).
    pub fn times(&self, what: &str) -> Vec<Instant> {
        self.requests().into_iter().filter(|seen| seen.what == what).map(|seen| seen.at).collect()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        locked(&self.shared.world)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let booted: Vec<String> =
            self.world().servers.values().filter(|s| s.is_booted()).map(|s| s.name.clone()).collect();
        for name in booted {
            self.shared.machines.kill(&name);
        }
    }
}
