//! The pool: grants, renews and releases leases. One mutex guards the ledger and the running tasks, so no two
//! requests change a lease at once; whoever only looks does not wait for it. A lease is in the ledger before the provider is called, and stays until the
//! provider has released it. Not responsible for: HTTP, the calls to the provider (see `provider_calls`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::desk::{Desk, End, Work, at, ended};
use super::error::ServeError;
use super::health::Health;
use super::ledger::{Ledger, LedgerView, Quota};
use super::log;
use super::machine::{Row, State, lease_id};
use super::metrics::Metrics;
use super::problem::{Problem, gone, releasing, stopping};
use super::request::LeaseRequest;
use super::tokens::Caller;
use crate::domain::base::{LeaseId, Timestamp};
use crate::domain::model::{Fault, FaultClass};
use crate::domain::ports::{ComputeProvider, Offer};

/// Poll interval for what others have to end first: a create call that may still land, a lock that they hold.
pub(super) const SETTLING: Duration = Duration::from_millis(500);
/// On shutdown, timeout for releasing leases that are not granted yet.
const STOP_BOUND: Duration = Duration::from_secs(30);

/// Limits of the pool.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Leases in total; 0 means no limit.
    pub max_leases: usize,
    /// Leases per workspace; 0 means no limit.
    pub max_leases_per_workspace: usize,
    /// Leases per token, where the token has no limit of its own; 0 means no limit.
    pub max_leases_per_token: usize,
    /// Longest lifetime of a lease, including renewals, in seconds.
    pub max_ttl_s: u64,
    /// Interval between sweeps for expired leases and failed releases.
    pub sweep: Duration,
}

impl Bounds {
    /// How many leases there may be where this caller asks for one.
    fn quota(&self, caller: &Caller) -> Quota {
        let own = caller.max_leases().unwrap_or(self.max_leases_per_token);
        Quota { all: self.max_leases, workspace: self.max_leases_per_workspace, caller: own }
    }
}

/// Source of the current time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The pool of leases.
pub struct Pool {
    pub(super) provider: Arc<dyn ComputeProvider>,
    pub(super) desk: Arc<Mutex<Desk>>,
    /// The ledger as it was last committed.
    committed: Arc<Mutex<LedgerView>>,
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
    pub fn new(
        provider: Arc<dyn ComputeProvider>,
        (ledger, view): (Ledger, LedgerView),
        bounds: Bounds,
        clock: Clock,
    ) -> Arc<Self> {
        let (desk, committed) = (Arc::new(Mutex::new(Desk::new(ledger))), Arc::new(Mutex::new(view)));
        let (health, metrics) = (Health::default(), Metrics::default());
        Arc::new(Self { provider, desk, committed, bounds, clock, health, metrics })
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Runs `work` at the desk, to completion even if the caller goes away.
    pub(super) async fn at_desk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Desk) -> Result<T, ServeError> + Send + 'static,
    ) -> Result<T, ServeError> {
        at(&self.desk, work).await
    }

    /// Looks at the ledger as it was last committed, while somebody else may be changing it.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&LedgerView) -> Result<T, ServeError> + Send + 'static,
    ) -> Result<T, ServeError> {
        at(&self.committed, |view| look(view)).await
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
        let quota = self.bounds.quota(caller);
        let (new, work) = self.at_desk(move |desk| Ok(desk.ask(&pool, row, quota))).await??;
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

    /// A lease, also one that is gone and remembered.
    pub async fn find(&self, id: &LeaseId) -> Result<Option<Row>, Problem> {
        let id = id.clone();
        Ok(self.look(move |ledger| ledger.get(&id)).await?)
    }

    /// A lease, unless it is gone.
    pub async fn get(&self, id: &LeaseId) -> Result<Option<Row>, Problem> {
        Ok(self.find(id).await?.filter(|row| row.state != State::Released))
    }

    /// All leases that are not gone.
    pub async fn list(&self) -> Result<Vec<Row>, Problem> {
        Ok(self.look(LedgerView::list).await?)
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
        swept?;
        self.hold_next_again().await
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
}

fn not_granted(fault: &Fault) -> Problem {
    match fault.class() {
        FaultClass::Cancelled => gone(),
        // With this configuration the pool can lease no such machine to any caller.
        FaultClass::Configuration => Problem { status: 501, ..Problem::of_provider(fault) },
        _ => Problem::of_provider(fault),
    }
}
