//! The clock of this machine. Not responsible for: what a time means.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::domain::base::Timestamp;

/// The time now, milliseconds since 1970 (UTC). A clock before that counts as 0.
pub fn now() -> Timestamp {
    Timestamp(0).plus(since_epoch())
}

/// The same, at the clock's full resolution.
pub fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
