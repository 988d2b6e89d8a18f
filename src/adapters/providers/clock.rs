//! The time, as marks of leases hold it. Not responsible for: measuring durations.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::domain::base::Timestamp;

/// Now.
pub fn now() -> Timestamp {
    Timestamp(0).plus(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}
