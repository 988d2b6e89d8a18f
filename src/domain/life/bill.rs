//! What a run's leases have cost so far. Clouds bill started hours, counted from the machine's creation. Not
//! responsible for: the prices (the limits hold them).
//!
//! Only the provider knows when a machine was created. We count from the request, so that the reported cost is never
//! too low. A refused request may have created a machine all the same (the answer was lost, the boot took too long,
//! nobody waited for it), so it stays on the bill. Only a refusal that another try would not change (`Unavailable`: no
//! such type, no permission) means that nothing was created; such a request leaves the bill once its release has found
//! nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::base::{LeaseId, Timestamp};

/// The billing period.
const HOUR: Duration = Duration::from_secs(3600);
/// How long before the next hour an idle lease is released, because a release takes time.
const MARGIN: Duration = Duration::from_secs(120);

/// A priced lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Item {
    asked: Timestamp,
    released: Option<Timestamp>,
    hourly_micros: u64,
    /// Whether nothing was created for it.
    void: bool,
}

/// The priced leases of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bill {
    items: BTreeMap<LeaseId, Item>,
}

impl Bill {
    /// Records that a lease was requested, or that its price turned out to be another one.
    pub fn price(&mut self, lease: &LeaseId, asked: Timestamp, hourly_micros: u64) {
        self.items.insert(lease.clone(), Item { asked, released: None, hourly_micros, void: false });
    }

    /// Records that nothing was created for it. It counts until its release.
    pub fn void(&mut self, lease: &LeaseId) {
        if let Some(item) = self.items.get_mut(lease) {
            item.void = true;
        }
    }

    /// Records that it was released.
    pub fn end(&mut self, lease: &LeaseId, at: Timestamp) {
        let Some(item) = self.items.get_mut(lease) else { return };
        item.released.get_or_insert(at);
        if item.void {
            self.items.remove(lease);
        }
    }

    /// The cost in millionths of the currency's unit, for started hours.
    pub fn micros(&self, at: Timestamp) -> u64 {
        let cost = |item: &Item| item.hours(at).saturating_mul(item.hourly_micros);
        self.items.values().map(cost).fold(0, u64::saturating_add)
    }

    /// The started hours, and the number of leases.
    pub fn hours(&self, at: Timestamp) -> (u64, usize) {
        (self.items.values().map(|item| item.hours(at)).sum(), self.items.len())
    }

    /// How long an idle lease may be kept before its next hour starts; `None` if it costs nothing.
    pub fn until_turn(&self, lease: &LeaseId, at: Timestamp) -> Option<Duration> {
        let item = self.items.get(lease)?;
        let into = Duration::from_millis(
            u64::try_from(at.since(item.asked).as_millis() % HOUR.as_millis()).unwrap_or_default(),
        );
        Some(HOUR.saturating_sub(into).saturating_sub(MARGIN))
    }
}

impl Item {
    fn hours(&self, at: Timestamp) -> u64 {
        let lived = self.released.unwrap_or(at).since(self.asked);
        u64::try_from(lived.as_millis().div_ceil(HOUR.as_millis()).max(1)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn started_hours_are_billed_from_the_ask_on() {
        let mut bill = Bill::default();
        let (one, two) = (LeaseId::from("1"), LeaseId::from("2"));
        let minute = |count: u64| Timestamp(count * 60_000);
        bill.price(&one, minute(0), 5_000);
        bill.price(&two, minute(10), 6_000);
        // A larger one was granted, ten minutes after the request.
        bill.price(&two, minute(10), 8_000);
        assert_eq!((bill.micros(minute(20)), bill.hours(minute(20))), (13_000, (2, 2)));
        bill.end(&one, minute(60));
        bill.end(&one, minute(200));
        assert_eq!((bill.micros(minute(71)), bill.hours(minute(71))), (21_000, (3, 2)));
        assert_eq!(bill.until_turn(&two, minute(11)), Some(Duration::from_secs(57 * 60)));
        assert_eq!(bill.until_turn(&two, minute(69)), Some(Duration::ZERO));
        assert_eq!(bill.until_turn(&LeaseId::from("free"), minute(0)), None);
    }

    #[test]
    fn what_was_never_created_counts_until_that_is_sure() {
        let mut bill = Bill::default();
        let lease = LeaseId::from("1");
        bill.price(&lease, Timestamp(0), 5_000);
        bill.void(&lease);
        assert_eq!(bill.micros(Timestamp(1)), 5_000);
        bill.end(&lease, Timestamp(2));
        assert_eq!((bill.micros(Timestamp(3)), bill.hours(Timestamp(3))), (0, (0, 0)));
    }
}
