//! The clock of this machine, and what it knows of other machines' clocks. Not responsible for: what a time means.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::domain::base::Timestamp;

/// The time now, milliseconds since 1970 (UTC): what the wall clock showed when this process first asked, and what has
/// passed since. So no time of one process, nor a duration between two, moves where somebody sets the clock; and a
/// machine that slept has slept, for leases go on.
pub fn now() -> Timestamp {
    static FIRST: OnceLock<(Duration, Duration)> = OnceLock::new();
    let (wall, up) = *FIRST.get_or_init(|| (since_epoch(), uptime()));
    Timestamp(0).plus(wall + uptime().saturating_sub(up))
}

/// What the wall clock shows, at its full resolution: what files are stamped with. It may be set at any time. A clock
/// before 1970 counts as 0.
pub fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Another text each time that this machine is started; `None` where the system tells none.
pub fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty())
}

/// For how long this machine is up, sleep included. Nobody sets it.
pub fn uptime() -> Duration {
    #[cfg(target_os = "linux")]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;
    let up = rustix::time::clock_gettime(CLOCK);
    Duration::new(u64::try_from(up.tv_sec).unwrap_or(0), u32::try_from(up.tv_nsec).unwrap_or(0))
}

/// A time by another machine's clock. It is no [`Timestamp`], so that nothing compares it with this machine's clock:
/// what it is here, only [`RemoteClock::here`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RemoteTime(pub Timestamp);

/// Clocks that differ by less count as equal, milliseconds: what a clock shows comes late, and in whole seconds.
const ALIKE: u64 = 5_000;

/// The clock of a machine that others share with us: a provider's. Whatever they compare stands in its time, as clocks of
/// machines that know nothing of each other may be hours apart. It is read from the answers; as long as none has told a
/// time, it counts as being like our own.
#[derive(Debug, Default)]
pub struct RemoteClock(Mutex<Option<(Timestamp, Instant)>>);

impl RemoteClock {
    /// Takes the time that an answer tells; `None` if it tells none.
    pub fn heard(&self, at: Option<Timestamp>) {
        if let Some(at) = at {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, Instant::now()));
        }
    }

    /// The time there now.
    pub fn now(&self) -> RemoteTime {
        let heard = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        RemoteTime(heard.map_or_else(now, |(at, heard)| at.plus(heard.elapsed())))
    }

    /// The time there after so long.
    pub fn after(&self, by: Duration) -> RemoteTime {
        RemoteTime(self.now().0.plus(by))
    }

    /// What a time there is by this machine's clock.
    pub fn here(&self, at: RemoteTime) -> Timestamp {
        translated(at, self.now(), now())
    }

    /// Whether a time there has come.
    pub fn is_past(&self, at: RemoteTime) -> bool {
        at <= self.now()
    }
}

/// A time of a clock that shows `there` while ours shows `here`, by ours.
fn translated(at: RemoteTime, there: RemoteTime, here: Timestamp) -> Timestamp {
    let (there, here) = (there.0.0, here.0);
    if there.abs_diff(here) < ALIKE {
        return at.0;
    }
    Timestamp(if there > here { at.0.0.saturating_sub(there - here) } else { at.0.0.saturating_add(here - there) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    #[test]
    fn a_time_of_another_clock_is_as_far_away_by_ours() {
        let here = Timestamp(100 * HOUR);
        for there in [Timestamp(90 * HOUR), Timestamp(110 * HOUR), here] {
            let at = |ms: u64| translated(RemoteTime(Timestamp(ms)), RemoteTime(there), here);
            assert_eq!(at(there.0 + HOUR), Timestamp(101 * HOUR), "in an hour, with the other clock at {there:?}");
            assert_eq!(at(there.0 - HOUR), Timestamp(99 * HOUR), "an hour ago, with the other clock at {there:?}");
        }
    }

    #[test]
    fn a_few_seconds_between_clocks_change_no_time() {
        let (here, at) = (Timestamp(HOUR), RemoteTime(Timestamp(2 * HOUR)));
        for there in [HOUR - ALIKE + 1, HOUR, HOUR + ALIKE - 1] {
            assert_eq!(translated(at, RemoteTime(Timestamp(there)), here), at.0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn another_clock_goes_on_from_what_was_heard_last() {
        let clock = RemoteClock::default();
        clock.heard(Some(Timestamp(HOUR)));
        clock.heard(None);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(clock.now(), RemoteTime(Timestamp(HOUR + 60_000)));
        assert_eq!(clock.after(Duration::from_secs(1)), RemoteTime(Timestamp(HOUR + 61_000)));
        assert!(clock.is_past(RemoteTime(Timestamp(HOUR + 60_000))));
        assert!(!clock.is_past(RemoteTime(Timestamp(HOUR + 60_001))));
    }

    #[test]
    fn a_clock_that_nobody_told_is_like_ours() {
        let (clock, before) = (RemoteClock::default(), now());
        assert!(clock.now().0 >= before && clock.now().0.since(before) < Duration::from_secs(60));
        assert_eq!(clock.here(RemoteTime(Timestamp(7))), Timestamp(7));
    }
}
