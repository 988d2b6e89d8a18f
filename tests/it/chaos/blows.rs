//! What befalls a run while it is under way. Not responsible for: what was wrong before (see `worlds`).

use super::Dice;
use super::stage::Stage;

/// What befalls a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    None,
    Signal(&'static str),
    Daemons,
    /// Every daemon dies, whenever it is started again, for some seconds.
    DaemonsForSeconds,
    Hosts,
    /// Every link is open on one side only.
    Links,
    /// Every daemon takes connections and answers nothing.
    Hangs,
    /// No host has any disk space left.
    FullDisks,
    /// The pool is killed, and stays away until the run is over.
    PoolDies,
    /// The pool is killed, and started again at once.
    PoolComesBack,
    /// The pool and its client are killed.
    PoolAndClientDie,
    /// The pool hangs until the run is over.
    PoolHangs,
    /// The node says nothing any more until the run is over.
    NodeFallsSilent,
}

/// Leaves a host no space for contexts, and its daemon none for builds.
const FILL: &str = "for d in /run /workspace /var/lib/lian-build; do \
  mount -o remount,size=$(($(df -k --output=used $d | tail -1) + 64))k $d; done";
/// Longer than a daemon takes to start.
const AWAY: &str = "(for _ in $(seq 30); do pkill -9 buildkitd; sleep 0.1; done) </dev/null >/dev/null 2>&1 &";

impl Blow {
    /// Any of them.
    pub fn of(dice: &mut Dice) -> Self {
        match dice.below(15) {
            0 => Self::None,
            1 => Self::Signal("INT"),
            2 => Self::Signal("TERM"),
            3 => Self::Signal("HUP"),
            4 | 5 => Self::Daemons,
            6 => Self::Hosts,
            7 | 8 => Self::Links,
            9 => Self::Hangs,
            10 => Self::FullDisks,
            11 => Self::DaemonsForSeconds,
            _ => Self::Signal("KILL"),
        }
    }

    /// The signal that it is for the run's process.
    pub fn signal(self) -> Option<&'static str> {
        match self {
            Self::Signal(name) => Some(name),
            Self::PoolAndClientDie => Some("KILL"),
            _ => None,
        }
    }

    /// Strikes the hosts that live; signals are for whoever has the process.
    pub fn strike(self, stage: &Stage) {
        match self {
            Self::Daemons => stage.on_each("pkill -9 buildkitd"),
            Self::DaemonsForSeconds => stage.on_each(AWAY),
            Self::Hosts => stage.on_each("kill -9 -1"),
            Self::Links => stage.cut_each(),
            Self::Hangs => stage.on_each("pkill -STOP buildkitd"),
            Self::FullDisks => stage.on_each(FILL),
            Self::PoolDies | Self::PoolAndClientDie => stage.pool().die(),
            Self::PoolComesBack => {
                stage.pool().die();
                stage.pool().come_back();
            }
            Self::PoolHangs => stage.pool().hang(true),
            Self::NodeFallsSilent => stage.node().fall_silent(),
            Self::None | Self::Signal(_) => {}
        }
    }
}
