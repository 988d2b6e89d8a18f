//! The calls to the pool's provider: each acquires or releases one machine, writes down how it ended, and tells those
//! who wait. Not responsible for: who may ask (see `pool`).

use std::sync::Arc;
use std::time::Duration;

use super::desk::{Desk, End, Keeper, Work, unwritten};
use super::ledger::{Asked, Quota};
use super::log;
use super::machine::{Machine, Row, State};
use super::pool::{Pool, SETTLING};
use super::problem::{Problem, gone, releasing, stopping};
use crate::domain::base::LeaseId;
use crate::domain::model::{Fault, FaultClass, FaultKind};
use crate::domain::ports::LeaseRecord;

/// Timeout for acquiring a machine, including the wait for a free one.
const ACQUIRE_BOUND: Duration = Duration::from_secs(20 * 60);
/// Timeout for one release call to the provider.
const RELEASE_BOUND: Duration = Duration::from_secs(5 * 60);

impl Pool {
    async fn acquire(self: Arc<Self>, work: Arc<Work>, row: Row) {
        let started = tokio::time::Instant::now();
        let keeper = Keeper(Arc::clone(&self.desk));
        let record = LeaseRecord::kept(row.id.clone(), Arc::new(keeper));
        let granted = loop {
            let granted = self.granted(&work, &row, &record).await;
            let Ok(machine) = &granted else { break granted };
            match self.unheld_at(machine).await {
                Ok(None) => break granted,
                // It is another lease's: that one holds it from now on, and this one goes on looking.
                Ok(Some(theirs)) => {
                    drop(self.provider.release(&row.id, &record).await);
                    if !self.hold_again(&theirs).await.unwrap_or(false) {
                        tokio::time::sleep(SETTLING).await;
                    }
                }
                Err(error) => break Err(unwritten(&error)),
            }
        };
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
    pub(super) fn ask(
        &mut self,
        pool: &Arc<Pool>,
        row: Row,
        quota: Quota,
    ) -> Result<(bool, Option<Arc<Work>>), Problem> {
        if self.stopping {
            return Err(stopping());
        }
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
    pub(super) fn take_back(&mut self, pool: &Arc<Pool>, id: &LeaseId) -> Arc<Work> {
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

/// The lease was released before it was granted.
fn cancelled() -> Fault {
    let message = "the lease was given back before it was granted";
    Fault::new(FaultKind::Unavailable, "lian::serve::cancelled", message).with_class(FaultClass::Cancelled)
}

fn late(bound: Duration) -> Fault {
    let message = format!("the pool's provider did not answer within {} s", bound.as_secs());
    Fault::new(FaultKind::Infrastructure, "lian::serve::late", message).help("try again, or ask for another size")
}
