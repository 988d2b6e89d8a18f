//! The pool: grants, renews and releases leases. One mutex guards the ledger and the running tasks, so no two
//! requests change a lease at once. A lease is in the ledger before the provider is called, and stays until the
//! provider has released it. Not responsible for: HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex, Notify, watch};

use super::error::ServeError;
use super::health::Health;
use super::ledger::{Asked, Ledger, Quota};
use super::log;
use super::machine::{Machine, Row, State, lease_id};
use super::metrics::Metrics;
use super::problem::{Problem, gone, releasing, stopping};
use super::request::LeaseRequest;
use super::tokens::Caller;
use crate::domain::base::{LeaseId, Timestamp};
use crate::domain::model::{Fault, FaultClass, FaultKind};
use crate::domain::ports::{ComputeProvider, LeaseRecord, Offer, RecordKeeper, Resource};

/// Timeout for acquiring a machine, including the wait for a free one.
const ACQUIRE_BOUND: Duration = Duration::from_secs(20 * 60);
/// Timeout for one release call to the provider.
const RELEASE_BOUND: Duration = Duration::from_secs(5 * 60);
/// Poll interval for a release whose create call may still land.
const SETTLING: Duration = Duration::from_millis(500);
/// On shutdown, timeout for releasing leases that are not granted yet.
const STOP_BOUND: Duration = Duration::from_secs(30);

/// Limits of the pool.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Leases in total; 0 means no limit.
    pub max_leases: usize,
    /// Leases per workspace; 0 means no limit.
    pub max_leases_per_workspace: usize,
    /// Longest lifetime of a lease, including renewals, in seconds.
    pub max_ttl_s: u64,
    /// Interval between sweeps for expired leases and failed releases.
    pub sweep: Duration,
}

/// Source of the current time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// State of a task.
#[derive(Debug, Clone)]
enum End {
    UnderWay,
    Done,
    Failed(Fault),
}

/// A running provider call for a lease; at most one per lease.
pub(super) struct Work {
    cancel: Notify,
    end: watch::Sender<End>,
}

/// State behind the mutex: the ledger and the running tasks.
pub(super) struct Desk {
    pub ledger: Ledger,
    works: BTreeMap<LeaseId, Arc<Work>>,
    stopping: bool,
}

/// The ledger as the keeper of its leases' records.
struct Keeper(Arc<Mutex<Desk>>);

#[async_trait]
impl RecordKeeper for Keeper {
    async fn keep(&self, lease: &LeaseId, resource: &Resource) -> Result<(), Fault> {
        let (lease, resource) = (lease.clone(), resource.clone());
        let kept = at(&self.0, move |desk| desk.ledger.learn(&lease, &resource)).await;
        kept.map_err(|error| unwritten(&error))
    }
}

/// The pool of leases.
pub struct Pool {
    pub(super) provider: Arc<dyn ComputeProvider>,
    desk: Arc<Mutex<Desk>>,
    pub(super) bounds: Bounds,
    clock: Clock,
    health: Health,
    pub(super) metrics: Metrics,
}

/// A held lease.
pub enum Leased {
    /// Granted by this request.
    New(Row),
    /// Granted by an earlier request with the same key.
    Known(Row),
}

impl Pool {
    /// Creates a pool on an open ledger.
    pub fn new(provider: Arc<dyn ComputeProvider>, ledger: Ledger, bounds: Bounds, clock: Clock) -> Arc<Self> {
        let desk = Desk { ledger, works: BTreeMap::new(), stopping: false };
        let (desk, health, metrics) = (Arc::new(Mutex::new(desk)), Health::default(), Metrics::default());
        Arc::new(Self { provider, desk, bounds, clock, health, metrics })
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Runs `work` under the mutex, to completion even if the caller goes away. On a blocking thread, because SQLite
    /// waits for the disk.
    pub(super) async fn at_desk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Desk) -> Result<T, ServeError> + Send + 'static,
    ) -> Result<T, ServeError> {
        at(&self.desk, work).await
    }

    /// Sizes that the provider offers.
    pub async fn offers(&self) -> Result<Vec<Offer>, Problem> {
        self.provider.offers().await.map_err(|fault| Problem::of_provider(&fault))
    }

    /// Leases a machine and waits for it. If the caller goes away, the lease stays and its key finds it.
    pub async fn lease(
        self: &Arc<Self>,
        caller: &Caller,
        key: String,
        lease_request: LeaseRequest,
    ) -> Result<Leased, Problem> {
        let now = self.now();
        let row = Row {
            id: lease_id(&caller.name, &key),
            owner: caller.name.clone(),
            key,
            state: State::Asked,
            asked: now,
            expires: now.plus(Duration::from_secs(lease_request.ttl_s)),
            lease_request: Some(lease_request),
            machine: None,
            failures: 0,
            fault: None,
            settles: Timestamp(0),
        };
        let id = row.id.clone();
        let pool = Arc::clone(self);
        let (new, work) = self.at_desk(move |desk| Ok(desk.ask(&pool, row))).await??;
        if let Some(work) = work
            && let End::Failed(fault) = ended(&work).await
        {
            let stopped = self.at_desk(|desk| Ok(desk.stopping)).await?;
            return Err(if stopped { stopping() } else { not_granted(&fault) });
        }
        match self.get(&id).await? {
            Some(row) if row.state == State::Held => Ok(if new { Leased::New(row) } else { Leased::Known(row) }),
            Some(_) => Err(releasing()),
            None => Err(gone()),
        }
    }

    /// A lease, unless it is gone.
    pub async fn get(&self, id: &LeaseId) -> Result<Option<Row>, Problem> {
        let id = id.clone();
        let row = self.at_desk(move |desk| desk.ledger.get(&id)).await?;
        Ok(row.filter(|row| row.state != State::Released))
    }

    /// All leases that are not gone.
    pub async fn list(&self) -> Result<Vec<Row>, Problem> {
        Ok(self.at_desk(|desk| desk.ledger.list()).await?)
    }

    /// Sets the expiry to `ttl_s` seconds from now, at most the longest lifetime since the request.
    pub async fn renew(&self, row: &Row, ttl_s: u64) -> Result<Row, Problem> {
        let longest = row.asked.plus(Duration::from_secs(self.bounds.max_ttl_s));
        let expires = self.now().plus(Duration::from_secs(ttl_s)).min(longest);
        let id = row.id.clone();
        let renewed = self.at_desk(move |desk| desk.ledger.renew(&id, expires)).await?;
        match self.get(&row.id).await? {
            Some(row) if renewed => Ok(row),
            Some(_) => Err(Problem::new(409, "not_held", "the lease is not held", "lease another machine")),
            None => Err(gone()),
        }
    }

    /// Writes down that a lease is to be released, and waits for that for a while. True if it is gone.
    pub async fn give_back(self: &Arc<Self>, row: Row, patience: Duration) -> Result<bool, Problem> {
        let id = row.id.clone();
        // Even who waits for nothing waits until it is written down.
        let Some(begun) = self.begin_release(&id, Some(row)).await? else { return Ok(true) };
        // After the timeout, report the current state.
        match tokio::time::timeout(patience, self.released(&id, begun)).await {
            Ok(gone) => Ok(gone?),
            Err(_) => Ok(self.get(&id).await?.is_none()),
        }
    }

    /// Starts the release of a lease, or joins it; `None` if the lease is gone. With a row, it is written down first, in
    /// one critical section: no other request can start the release in between.
    async fn begin_release(
        self: &Arc<Self>,
        id: &LeaseId,
        row: Option<Row>,
    ) -> Result<Option<(Timestamp, Arc<Work>)>, ServeError> {
        let (pool, wanted) = (Arc::clone(self), id.clone());
        let begun = self.at_desk(move |desk| {
            row.map_or(Ok(()), |row| desk.ledger.give_back(&row))?;
            let row = desk.ledger.get(&wanted)?.filter(|row| row.state != State::Released);
            Ok(row.map(|row| (row.settles, desk.take_back(&pool, &wanted))))
        });
        begun.await
    }

    /// Waits until a lease is gone or a release failed. Repeats while a create call may still land.
    async fn released(self: &Arc<Self>, id: &LeaseId, begun: (Timestamp, Arc<Work>)) -> Result<bool, ServeError> {
        let (mut settles, mut work) = begun;
        loop {
            ended(&work).await;
            if settles <= self.now() {
                let wanted = id.clone();
                let row = self.at_desk(move |desk| desk.ledger.get(&wanted)).await?;
                return Ok(row.is_none_or(|row| row.state == State::Released));
            }
            tokio::time::sleep(SETTLING).await;
            match self.begin_release(id, None).await? {
                Some(again) => (settles, work) = again,
                None => return Ok(true),
            }
        }
    }

    /// Whether the ledger worked when it was last looked at.
    pub fn is_well(&self) -> bool {
        self.health.is_well(self.bounds.sweep)
    }

    /// Releases expired leases and retries failed releases.
    pub async fn sweep(self: &Arc<Self>) -> Result<(), ServeError> {
        let swept = self.swept().await;
        self.health.note(swept.is_ok());
        swept
    }

    async fn swept(self: &Arc<Self>) -> Result<(), ServeError> {
        let (pool, now) = (Arc::clone(self), self.now());
        self.at_desk(move |desk| {
            let rows = desk.ledger.list()?;
            let over = |row: &&Row| matches!(row.state, State::Asked | State::Held) && row.expires <= now;
            rows.iter().filter(over).for_each(log::expired);
            pool.metrics.expired(desk.ledger.expire(now)?);
            // Requested but without a task: its result could not be written to the ledger.
            for row in rows.iter().filter(|row| row.state == State::Asked) {
                if !desk.works.contains_key(&row.id) {
                    desk.ledger.refuse(&row.id, now)?;
                }
            }
            for row in desk.ledger.due(now)? {
                desk.take_back(&pool, &row.id);
            }
            desk.ledger.forget(now)
        })
        .await
    }

    /// Stops granting and releases what is not granted yet. Held leases stay: their callers use them.
    pub async fn stop(&self) {
        let works = self.at_desk(|desk| {
            desk.stopping = true;
            Ok(desk.works.values().cloned().collect::<Vec<_>>())
        });
        let works = works.await.unwrap_or_default();
        let all = async {
            for work in &works {
                work.cancel.notify_one();
                ended(work).await;
            }
        };
        if tokio::time::timeout(STOP_BOUND, all).await.is_err() {
            tracing::warn!("some machines are not given back yet: the next start goes on with them");
        }
    }

    async fn acquire(self: Arc<Self>, work: Arc<Work>, row: Row) {
        let started = tokio::time::Instant::now();
        let keeper = Keeper(Arc::clone(&self.desk));
        let record = LeaseRecord::kept(row.id.clone(), Arc::new(keeper));
        let granted = self.granted(&work, &row, &record).await;
        let (id, now) = (row.id.clone(), self.now());
        let ending = Arc::clone(&work);
        let fault = match granted {
            Ok(machine) => {
                let held = self.at_desk(move |desk| {
                    let held = desk.ledger.hold(&id, &machine, now)?;
                    if held {
                        desk.works.remove(&id);
                        ending.end.send_replace(End::Done);
                    }
                    Ok(held)
                });
                match held.await {
                    Ok(true) => return self.metrics.acquired(started.elapsed()),
                    Ok(false) => cancelled(),
                    Err(error) => unwritten(&error),
                }
            }
            Err(fault) => fault,
        };
        let (code, why, workspace) = (&fault.code, &fault.message, row.workspace());
        tracing::warn!(lease = %row.id, workspace, code, why, "no machine was granted");
        self.metrics.acquire_failed();
        let (id, now) = (row.id.clone(), self.now());
        if let Err(error) = self.at_desk(move |desk| desk.ledger.refuse(&id, now)).await {
            tracing::error!(lease = %row.id, error = ?error, "the ledger failed");
        }
        self.release(work, row.id, record, Some(fault)).await;
    }

    async fn granted(&self, work: &Work, row: &Row, record: &LeaseRecord) -> Result<Machine, Fault> {
        let Some(request) = row.request(self.bounds.max_ttl_s, self.now()) else { return Err(cancelled()) };
        let acquire = tokio::time::timeout(ACQUIRE_BOUND, self.provider.acquire(&request, record));
        tokio::select! {
            biased;
            () = work.cancel.notified() => Err(cancelled()),
            granted = acquire => granted.unwrap_or_else(|_| Err(late(ACQUIRE_BOUND)))
                // A machine that only this process knows is not leased.
                .and_then(|lease| record.fault().map_or(Ok(lease), Err))
                .and_then(Machine::of),
        }
    }

    /// Releases at the provider. `fault` is reported to waiting callers if the machine was never granted.
    async fn release(self: Arc<Self>, work: Arc<Work>, id: LeaseId, record: LeaseRecord, fault: Option<Fault>) {
        let released = tokio::time::timeout(RELEASE_BOUND, self.provider.release(&id, &record)).await;
        let released = released.unwrap_or_else(|_| Err(late(RELEASE_BOUND)));
        match &released {
            Ok(_) => log::gone(&id),
            Err(fault) => {
                let (code, why) = (&fault.code, &fault.message);
                tracing::warn!(lease = %id, code, why, "a machine is not given back yet");
                self.metrics.release_failed();
            }
        }
        let now = self.now();
        let failed = released.as_ref().err().map(|fault| format!("{}: {}", fault.code, fault.message));
        let end = match fault.or(released.err()) {
            Some(fault) => End::Failed(fault),
            None => End::Done,
        };
        let written = self.at_desk(move |desk| {
            let written = match failed {
                None => desk.ledger.released(&id, now),
                Some(why) => desk.ledger.release_failed(&id, &why, now),
            };
            desk.works.remove(&id);
            work.end.send_replace(end);
            written
        });
        if let Err(error) = written.await {
            tracing::error!(error = ?error, "the ledger failed");
        }
    }
}

impl Desk {
    /// Records a request and starts acquiring. Returns whether it is new, and the task to wait for, if any.
    fn ask(&mut self, pool: &Arc<Pool>, row: Row) -> Result<(bool, Option<Arc<Work>>), Problem> {
        if self.stopping {
            return Err(stopping());
        }
        let bounds = pool.bounds;
        let quota = Quota { all: bounds.max_leases, workspace: bounds.max_leases_per_workspace };
        match self.ledger.ask(&row, quota)? {
            Asked::New => {
                let work = self.begin(&row.id);
                let acquire = Arc::clone(pool).acquire(Arc::clone(&work), row.clone());
                watch_over(pool, &work, row.id, acquire);
                Ok((true, Some(work)))
            }
            Asked::Known(known) => match known.state {
                State::Asked => Ok((false, self.works.get(&row.id).cloned())),
                State::Held => Ok((false, None)),
                State::Releasing | State::Stuck => Err(releasing()),
                State::Released => Err(gone()),
            },
            Asked::Conflict => {
                let help = "choose another key for another machine, or repeat the first request as it was";
                let message = "the idempotency key was used with another body";
                Err(Problem::new(422, "idempotency_conflict", message, help))
            }
            Asked::Full(whose) => {
                let message = format!("{whose} has as many leases as it may have");
                Err(Problem::new(429, "quota", message, "give leases back, or wait until others do").retry(2))
            }
        }
    }

    /// The task that releases a lease: cancels the running one, or starts a new one.
    fn take_back(&mut self, pool: &Arc<Pool>, id: &LeaseId) -> Arc<Work> {
        if let Some(work) = self.works.get(id) {
            work.cancel.notify_one();
            return Arc::clone(work);
        }
        let work = self.begin(id);
        // A ledger that cannot be read must not keep a machine alive: its name finds it too.
        let known = self.ledger.known(id).unwrap_or_else(|error| {
            tracing::error!(lease = %id, error = ?error, "the ledger failed");
            Vec::new()
        });
        let release = Arc::clone(pool).release(Arc::clone(&work), id.clone(), LeaseRecord::read(known), None);
        watch_over(pool, &work, id.clone(), release);
        work
    }

    fn begin(&mut self, id: &LeaseId) -> Arc<Work> {
        let work = Arc::new(Work { cancel: Notify::new(), end: watch::Sender::new(End::UnderWay) });
        self.works.insert(id.clone(), Arc::clone(&work));
        work
    }
}

/// Runs a task. If it panics, reports a failure to those who wait; the next sweep releases what it left.
fn watch_over(pool: &Arc<Pool>, work: &Arc<Work>, id: LeaseId, does: impl Future<Output = ()> + Send + 'static) {
    let (pool, work, task) = (Arc::clone(pool), Arc::clone(work), tokio::spawn(does));
    tokio::spawn(async move {
        if task.await.is_ok() {
            return;
        }
        tracing::error!(lease = %id, "a provider panicked");
        let bug = Fault::new(FaultKind::Bug, "lian::serve::bug", "the pool's provider failed")
            .help("this is a bug in lian-build; please report it");
        let ended = pool.at_desk(move |desk| {
            desk.works.remove(&id);
            work.end.send_replace(End::Failed(bug));
            Ok(())
        });
        drop(ended.await);
    });
}

async fn at<T: Send + 'static>(
    desk: &Arc<Mutex<Desk>>,
    work: impl FnOnce(&mut Desk) -> Result<T, ServeError> + Send + 'static,
) -> Result<T, ServeError> {
    let mut desk = Arc::clone(desk).lock_owned().await;
    let done = tokio::task::spawn_blocking(move || work(&mut desk)).await;
    match done {
        Ok(done) => done,
        // The runtime is shutting down: nobody waits for the result.
        Err(error) if error.is_cancelled() => std::future::pending().await,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

async fn ended(work: &Work) -> End {
    let mut end = work.end.subscribe();
    let end = end.wait_for(|end| !matches!(end, End::UnderWay)).await;
    end.expect("invariant: the sender is borrowed").clone()
}

/// The lease was released before it was granted.
fn cancelled() -> Fault {
    let message = "the lease was given back before it was granted";
    Fault::new(FaultKind::Unavailable, "lian::serve::cancelled", message).with_class(FaultClass::Cancelled)
}

fn late(bound: Duration) -> Fault {
    let message = format!("the pool's provider did not answer within {} s", bound.as_secs());
    Fault::new(FaultKind::Infrastructure, "lian::serve::late", message).help("try again, or ask for another size")
}

fn unwritten(error: &ServeError) -> Fault {
    tracing::error!(error = ?error, "the ledger failed");
    Fault::new(FaultKind::Infrastructure, "lian::serve::ledger", "the pool cannot write its ledger")
        .help("try again; the pool's operator finds the cause in the service's log")
}

fn not_granted(fault: &Fault) -> Problem {
    match fault.class() {
        FaultClass::Cancelled => gone(),
        // With this configuration the pool can lease no such machine to any caller.
        FaultClass::Configuration => Problem { status: 501, ..Problem::of_provider(fault) },
        _ => Problem::of_provider(fault),
    }
}
