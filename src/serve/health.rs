//! Whether the ledger works, as the last sweep found it. Not responsible for: looking (anybody may ask for health, so
//! asking costs nothing).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A sweep that takes longer than this is stuck.
const LATE: Duration = Duration::from_secs(30);

/// When the ledger last worked; `None` after a failure.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<Option<Instant>>);

impl Health {
    /// Notes how a sweep went.
    pub fn note(&self, works: bool) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = works.then(Instant::now);
    }

    /// Whether the last sweep was well, and not too long ago. `pause` is between two sweeps.
    pub fn is_well(&self, pause: Duration) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| last.elapsed() <= pause + LATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn health_ends_with_a_failure_and_with_silence() {
        let (health, pause) = (Health::default(), Duration::from_secs(1));
        assert!(!health.is_well(pause), "nobody has looked yet");
        health.note(true);
        assert!(health.is_well(pause));
        tokio::time::advance(pause + LATE + Duration::from_millis(1)).await;
        assert!(!health.is_well(pause), "the sweeps have ended");
        health.note(true);
        health.note(false);
        assert!(!health.is_well(pause));
    }
}
