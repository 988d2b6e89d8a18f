//! The clock of this machine. Not responsible for: what a time means.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::domain::base::Timestamp;

/// The time now, milliseconds since 1970 (UTC). A clock before that counts as 0.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
