//! Recovers the leases of a former process at start. Not responsible for: releasing leases that are still held.

use std::sync::Arc;
use std::time::Duration;

use super::error::ServeError;
use super::machine::{Machine, Row, State};
use super::pool::Pool;
use crate::domain::base::LeaseId;
use crate::domain::ports::LeaseRecord;

/// Timeout for a lock on a host; a longer wait means that another process has it.
const PATIENCE: Duration = Duration::from_secs(2);

impl Pool {
    /// Releases unanswered requests and expired leases; keeps held ones.
    pub async fn recover(self: &Arc<Self>) -> Result<(), ServeError> {
        let now = self.now();
        let left = self.at_desk(move |desk| {
            let left = desk.ledger.recover(now)?;
            Ok((left, desk.ledger.list()?))
        });
        let (left, rows) = left.await?;
        if left > 0 {
            tracing::warn!(leases = left, "leases that a former service left are given back");
        }
        // Leases that end with their process (locks on fixed hosts) must be acquired again.
        if self.provider.ends_with_process() {
            let held = rows.iter().filter(|row| row.state == State::Held && row.expires > now);
            let unheld = held.map(|row| row.id.clone()).collect();
            self.at_desk(|desk| {
                desk.unheld = unheld;
                Ok(())
            })
            .await?;
            for _ in 0..rows.len() {
                self.hold_next_again().await?;
            }
        }
        self.sweep().await
    }

    /// Holds one more of the machines that could not be held before: a lock that another process has, or a file that cannot
    /// be opened, says nothing of the lease.
    pub(super) async fn hold_next_again(&self) -> Result<(), ServeError> {
        let Some(row) = self.unheld().await?.into_iter().next() else { return Ok(()) };
        if !self.hold_again(&row).await? {
            tracing::warn!(lease = %row.id, "a machine that is leased cannot be held again yet: nobody else gets it");
        }
        Ok(())
    }

    /// The lease that this machine belongs to, if nothing but the ledger says so.
    pub(super) async fn unheld_at(&self, machine: &Machine) -> Result<Option<Row>, ServeError> {
        let unheld = self.unheld().await?;
        Ok(unheld.into_iter().find(|row| row.machine.as_ref().is_some_and(|held| is_same(held, machine))))
    }

    /// The leases whose machine is not held, of those that still last.
    async fn unheld(&self) -> Result<Vec<Row>, ServeError> {
        let now = self.now();
        self.at_desk(move |desk| {
            let mut rows = Vec::new();
            for id in &desk.unheld {
                rows.extend(desk.ledger.get(id)?.filter(|row| row.state == State::Held && row.expires > now));
            }
            desk.unheld = rows.iter().map(|row| row.id.clone()).collect();
            Ok(rows)
        })
        .await
    }

    /// Acquires the same machine again; false if that does not succeed now. Other machines granted instead are held until
    /// then, so that the provider does not grant them twice.
    pub(super) async fn hold_again(&self, row: &Row) -> Result<bool, ServeError> {
        let (held, id) = (self.acquired_again(row).await, row.id.clone());
        self.at_desk(move |desk| {
            desk.unheld.retain(|unheld| *unheld != id);
            // The others have their turn first.
            desk.unheld.extend((!held).then_some(id));
            Ok(held)
        })
        .await
    }

    async fn acquired_again(&self, row: &Row) -> bool {
        let Some(machine) = &row.machine else { return false };
        let Some(mut request) = row.request(self.bounds.max_ttl_s, self.now()) else { return false };
        (request.size.cpu, request.size.memory_gb) = (machine.cpu, machine.memory_gb);
        // What ends with its process needs no record.
        let record = LeaseRecord::default();
        let mut others = Vec::new();
        let mut held = false;
        loop {
            request.lease = LeaseId::new(format!("{}-again-{}", row.id, others.len()));
            let granted = tokio::time::timeout(PATIENCE, self.provider.acquire(&request, &record)).await;
            let Some(granted) = granted.ok().and_then(Result::ok).and_then(|lease| Machine::of(lease).ok()) else {
                break;
            };
            others.push(request.lease.clone());
            if !is_same(&granted, machine) {
                continue;
            }
            // Release it and acquire it under its own id; the other matching machines are still held.
            let _ = self.provider.release(&request.lease, &record).await;
            request.lease = row.id.clone();
            let granted = tokio::time::timeout(PATIENCE, self.provider.acquire(&request, &record)).await;
            let same = |got: Machine| is_same(&got, machine);
            held = granted.ok().and_then(Result::ok).is_some_and(|lease| Machine::of(lease).is_ok_and(same));
            if !held {
                others.push(request.lease.clone());
            }
            break;
        }
        for other in &others {
            let _ = self.provider.release(other, &record).await;
        }
        held
    }
}

fn is_same(one: &Machine, other: &Machine) -> bool {
    (&one.address, one.port) == (&other.address, other.port)
}
