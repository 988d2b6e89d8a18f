//! The time by which a service counts its leases. It goes on over a restart of the service, as long as the machine is up:
//! a clock that somebody sets in between ends no lease. Not responsible for: the clocks of providers (see `RemoteClock`).

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pool::Clock;
use crate::domain::base::Timestamp;
use crate::system::confined::Folder;
use crate::system::{boot_id, now, uptime};

/// The file, in the data folder.
const FILE: &str = "clock";
/// No such file is longer, in bytes.
const MOST: u64 = 4096;

/// What the clock showed at a moment since the machine was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    boot: String,
    up_ms: u64,
    at: Timestamp,
}

impl Kept {
    /// What the clock shows now, if the machine was not started anew since.
    fn goes_on(self, boot: &str, up: Duration) -> Option<Timestamp> {
        let passed = up.checked_sub(Duration::from_millis(self.up_ms))?;
        (self.boot == boot).then(|| self.at.plus(passed))
    }
}

/// The clock of the service in this folder.
pub(super) fn kept(folder: &Folder) -> Clock {
    let Some(boot) = boot_id() else { return Arc::new(now) };
    let up = uptime();
    let known = folder.read(FILE, MOST).ok().and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
    let at = known.and_then(|known| known.goes_on(&boot, up)).unwrap_or_else(now);
    let up_ms = u64::try_from(up.as_millis()).unwrap_or(u64::MAX);
    let text = serde_json::to_vec(&Kept { boot, up_ms, at }).expect("invariant: a time is plain data");
    if let Err(error) = folder.write_whole(FILE, &text) {
        tracing::warn!("{FILE} cannot be kept in the data folder: {error}");
    }
    Arc::new(move || at.plus(uptime().saturating_sub(up)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_goes_on_while_the_machine_is_up_and_no_longer() {
        let kept = Kept { boot: "b".to_owned(), up_ms: 5_000, at: Timestamp(70_000) };
        let shown = |boot: &str, seconds| kept.clone().goes_on(boot, Duration::from_secs(seconds));
        assert_eq!(shown("b", 8), Some(Timestamp(73_000)));
        assert_eq!((shown("c", 8), shown("b", 4)), (None, None), "another machine, or the same after a start");
    }
}
