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
            for row in rows.iter().filter(|row| row.state == State::Held && row.expires > now) {
                if !self.hold_again(row).await {
                    tracing::warn!(lease = %row.id, "a machine that is leased could not be held again");
                }
            }
        }
        self.sweep().await
    }

    /// Acquires the same machine again. Other machines granted instead are held until then, so that the provider does
    /// not grant them twice.
    async fn hold_again(&self, row: &Row) -> bool {
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
            if granted.address != machine.address || granted.port != machine.port {
                continue;
            }
            // Release it and acquire it under its own id; the other matching machines are still held.
            let _ = self.provider.release(&request.lease, &record).await;
            request.lease = row.id.clone();
            let granted = tokio::time::timeout(PATIENCE, self.provider.acquire(&request, &record)).await;
            let same = |got: Machine| (&got.address, got.port) == (&machine.address, machine.port);
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
