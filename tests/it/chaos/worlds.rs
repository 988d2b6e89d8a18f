//! The worlds that runs live in: what is wrong around a run, as values of one table. Not responsible for: what befalls the
//! run itself (see `chaos`).

use super::Dice;
use crate::cloud::Cloud;

/// A world: what is wrong around a run. Whatever it is, nothing may be left and no event may be lost.
pub struct World {
    /// As told in the output.
    pub name: &'static str,
    /// Makes it so, before the run.
    pub begin: fn(&Cloud, &mut Dice),
    /// Makes it whole again, after the run and before what the run left is looked at.
    pub end: fn(&Cloud),
}

/// Every world; a run lives in one of them. The first one is quiet.
pub const WORLDS: &[World] = &[
    World { name: "quiet", begin: |_, _| {}, end: |_| {} },
    World { name: "few faults", begin: |cloud, dice| cloud.fake.chaos(dice.seed(), 10), end: calm },
    World { name: "many faults", begin: |cloud, dice| cloud.fake.chaos(dice.seed(), 80), end: calm },
];

fn calm(cloud: &Cloud) {
    cloud.fake.chaos(0, 0);
}
