//! What simulated runs are made of: sizes, layers, places, and inputs that need no world to answer. Not responsible for:
//! what a world allows (see `world`).

use super::*;
use crate::domain::base::{Digest, LayerName, LeaseId};
use crate::domain::model::{Fault, FaultKind, Size};

/// The number of sizes.
pub const SIZES: usize = 4;
/// The number of platforms.
pub const PLATFORMS: usize = 2;

pub fn size(index: usize, time_budget_min: u32) -> Size {
    Size {
        runner_type: format!("t{index}"),
        cpu: 2 << index,
        memory_gb: 4 << index,
        time_budget_min,
        tier: "language_default".to_owned(),
    }
}

pub fn price(index: usize) -> u64 {
    2 << index
}

pub fn layer(index: usize) -> LayerName {
    LayerName::new(format!("l{index:02}"))
}

pub fn place(platform: usize) -> Placement {
    Placement { platform: format!("linux/p{platform}").into(), namespace: "dev".to_owned() }
}

pub fn is_work_of(effect: &Effect, wanted: &LayerName) -> bool {
    match effect {
        Effect::Claim { layer }
        | Effect::AwaitClaim { layer }
        | Effect::Sync { layer, .. }
        | Effect::Build { layer, .. }
        | Effect::Verify { layer, .. } => layer == wanted,
        _ => false,
    }
}

/// The good answer to an effect that does not wait for the clock. Other runs hold the keys of the layers whose bit is set
/// in `taken`.
pub fn well(effect: &Effect, taken: u32) -> Option<Input> {
    let is_taken = |layer: &LayerName| layer.as_str()[1..].parse().is_ok_and(|bit: u32| taken >> bit & 1 == 1);
    Some(match effect.clone() {
        Effect::Acquire { lease, size: Size { runner_type, cpu, memory_gb, .. }, .. } => {
            Input::LeaseGranted { lease, runner_type, cpu, memory_gb }
        }
        Effect::Claim { layer } if is_taken(&layer) => Input::ClaimTaken { layer },
        Effect::Claim { layer } => Input::Claimed { layer },
        Effect::AwaitClaim { layer } => Input::Found { digest: Digest::of([1]), layer },
        Effect::Release { lease } => Input::Released { lease },
        Effect::Kill { layer, .. } => Input::Killed { layer },
        Effect::Sync { layer, .. } => Input::Synced { layer },
        Effect::Build { layer, .. } => {
            Input::BuildDone { layer, digest: Digest::of([1]), steps: 3, cached: 1, measured: None }
        }
        Effect::Verify { layer, .. } => Input::Verified { layer },
        Effect::Promote { layer } => Input::Promoted { layer },
        Effect::Record { layer, .. } => Input::Recorded { layer },
        _ => return None,
    })
}

/// An input that nothing expects: about things that are unknown, over or were never requested.
pub fn stray(dice: u8) -> Input {
    let layer = layer(usize::from(dice % 12));
    let lease = LeaseId::new(format!("r-l{:02}-{}", dice % 9, 7));
    match dice % 6 {
        0 => Input::LeaseGranted { lease, runner_type: "t0".into(), cpu: 2, memory_gb: 4 },
        1 => Input::Released { lease },
        2 => Input::ReleaseFailed { lease, message: "stray".into(), is_final: false },
        3 => Input::TimerFired { timer: Timer::Budget { layer, attempt: 99 } },
        4 => Input::Begin,
        _ => Input::LeaseRefused { lease, fault: Fault::new(FaultKind::Build, "lian::test", "stray") },
    }
}
