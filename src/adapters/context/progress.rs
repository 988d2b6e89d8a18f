//! Says that reading a context takes long, and where it is. Not responsible for: reading.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::domain::base::human_bytes;

/// When it is said first, and again; milliseconds.
const FIRST: u64 = 2_000;
const AGAIN: u64 = 10_000;

/// How far the reading of one context is. Threads share it.
pub(super) struct Progress {
    began: Instant,
    bytes: AtomicU64,
    /// When it is said next.
    next: AtomicU64,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), bytes: AtomicU64::new(0), next: AtomicU64::new(FIRST) }
    }

    /// Some bytes of a file were read; none for a folder.
    pub(super) fn read(&self, path: &Path, bytes: u64) {
        let all = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if self.is_due(self.began.elapsed()) {
            tracing::warn!("reading a context takes long: {} so far, now {}", human_bytes(all), path.display());
        }
    }

    /// Whether it is said now. Of threads that ask together, one says it.
    fn is_due(&self, now: Duration) -> bool {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let next = self.next.load(Ordering::Relaxed);
        let swap = |next| self.next.compare_exchange(next, now + AGAIN, Ordering::Relaxed, Ordering::Relaxed);
        now >= next && swap(next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_after_two_seconds_and_then_now_and_again() {
        let progress = Progress::new();
        let said: Vec<u64> = (0..40).filter(|second| progress.is_due(Duration::from_secs(*second))).collect();
        assert_eq!(said, [2, 12, 22, 32]);
    }
}
