//! What a start finds: leases of a process that is gone. Not responsible for: giving up a lease that somebody holds.

use std::sync::Arc;
use std::time::Duration;

use super::error::ServeError;
use super::machine::{Machine, Row, State};
use super::pool::Pool;
use crate::domain::base::LeaseId;

/// A lock that is not had at once is somebody else's.
const PATIENCE: Duration = Duration::from_secs(2);

impl Pool {
    /// Gives back what was asked for and never answered, and what is over; holds on to what is held.
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
        // Where leases end with the process that holds them (locks on fixed hosts), they are taken again.
        if self.provider.ends_with_process() {
            for row in rows.iter().filter(|row| row.state == State::Held && row.expires > now) {
                if !self.hold_again(row).await {
                    tracing::warn!(lease = %row.id, "a machine that is leased could not be held again");
                }
            }
        }
        self.sweep().await
    }

    /// Takes the same machine again. Others that are granted instead are kept out of the way for as long as that takes.
    async fn hold_again(&self, row: &Row) -> bool {
        let Some(machine) = &row.machine else { return false };
        let Some(mut request) = row.request(self.bounds.max_ttl_s) else { return false };
        (request.size.cpu, request.size.memory_gb) = (machine.cpu, machine.memory_gb);
        let mut others = Vec::new();
        let mut held = false;
        loop {
            request.lease = LeaseId::new(format!("{}-again-{}", row.id, others.len()));
            let granted = tokio::time::timeout(PATIENCE, self.provider.acquire(&request)).await;
            let Some(granted) = granted.ok().and_then(Result::ok).and_then(|lease| Machine::of(lease).ok()) else {
                break;
            };
            others.push(request.lease.clone());
            if granted.address != machine.address || granted.port != machine.port {
                continue;
            }
            // Let go and taken under its own name: the others that fit are still out of the way.
            let _ = self.provider.release(&request.lease).await;
            request.lease = row.id.clone();
            let granted = tokio::time::timeout(PATIENCE, self.provider.acquire(&request)).await;
            let same = |got: Machine| (&got.address, got.port) == (&machine.address, machine.port);
            held = granted.ok().and_then(Result::ok).is_some_and(|lease| Machine::of(lease).is_ok_and(same));
            if !held {
                others.push(request.lease.clone());
            }
            break;
        }
        for other in &others {
            let _ = self.provider.release(other).await;
        }
        held
    }
}
