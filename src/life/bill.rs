//! What a run's leases cost so far: clouds bill started hours. Refuses: prices of its own (the limits carry them).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::{LeaseId, Timestamp};

/// What is billed as one.
const HOUR: Duration = Duration::from_secs(3600);
/// So long before the hour turns an idle lease is given back: a release takes its time.
const MARGIN: Duration = Duration::from_secs(120);

/// A priced lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Item {
    granted: Timestamp,
    released: Option<Timestamp>,
    hourly_micros: u64,
}

/// The priced leases of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bill {
    items: BTreeMap<LeaseId, Item>,
}

impl Bill {
    pub fn begin(&mut self, lease: &LeaseId, at: Timestamp, hourly_micros: u64) {
        self.items.insert(lease.clone(), Item { granted: at, released: None, hourly_micros });
    }

    pub fn end(&mut self, lease: &LeaseId, at: Timestamp) {
        if let Some(item) = self.items.get_mut(lease) {
            item.released.get_or_insert(at);
        }
    }

    /// Millionths of the currency's unit, in started hours.
    pub fn micros(&self, at: Timestamp) -> u64 {
        self.items.values().map(|item| item.hours(at).saturating_mul(item.hourly_micros)).sum()
    }

    /// Started hours, and of how many leases.
    pub fn hours(&self, at: Timestamp) -> (u64, usize) {
        (self.items.values().map(|item| item.hours(at)).sum(), self.items.len())
    }

    /// How long an idle lease may still be kept before its next hour starts; none where it costs nothing.
    pub fn until_turn(&self, lease: &LeaseId, at: Timestamp) -> Option<Duration> {
        let item = self.items.get(lease)?;
        let into = Duration::from_millis(
            u64::try_from(at.since(item.granted).as_millis() % HOUR.as_millis()).unwrap_or_default(),
        );
        Some(HOUR.saturating_sub(into).saturating_sub(MARGIN))
    }
}

impl Item {
    fn hours(&self, at: Timestamp) -> u64 {
        let lived = self.released.unwrap_or(at).since(self.granted);
        u64::try_from(lived.as_millis().div_ceil(HOUR.as_millis()).max(1)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn started_hours_are_billed() {
        let mut bill = Bill::default();
        let (one, two) = (LeaseId::from("1"), LeaseId::from("2"));
        let minute = |count: u64| Timestamp(count * 60_000);
        bill.begin(&one, minute(0), 5_000);
        bill.begin(&two, minute(10), 8_000);
        assert_eq!((bill.micros(minute(10)), bill.hours(minute(10))), (13_000, (2, 2)));
        bill.end(&one, minute(60));
        bill.end(&one, minute(200));
        assert_eq!((bill.micros(minute(71)), bill.hours(minute(71))), (21_000, (3, 2)));
        assert_eq!(bill.until_turn(&two, minute(11)), Some(Duration::from_secs(57 * 60)));
        assert_eq!(bill.until_turn(&two, minute(69)), Some(Duration::ZERO));
        assert_eq!(bill.until_turn(&LeaseId::from("free"), minute(0)), None);
    }
}
