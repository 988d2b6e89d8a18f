//! The worlds that runs live in: what is wrong around a run, as values of one table. Not responsible for: what befalls the
//! run itself (see `chaos`).

use std::time::Duration;

use super::Dice;
use crate::cloud::Cloud;
use crate::support::hetzner::{LabelTrouble, Troubles};

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
    World { name: "labels dropped", begin: |cloud, _| labels(cloud, LabelTrouble::Dropped), end: calm },
    World { name: "labels forgotten", begin: |cloud, _| labels(cloud, LabelTrouble::Forgotten), end: calm },
    World { name: "lists lag", begin: lists_lag, end: calm },
    World { name: "a list fails", begin: a_list_fails, end: calm },
    World { name: "servers are locked", begin: servers_are_locked, end: calm },
];

fn labels(cloud: &Cloud, labels: LabelTrouble) {
    cloud.fake.troubled(Troubles { labels, ..Troubles::default() });
}

/// Longer than most runs, and shorter than a list of the real API ever lagged.
fn lists_lag(cloud: &Cloud, dice: &mut Dice) {
    cloud.fake.chaos(dice.seed(), 20);
    let lag = Duration::from_millis(500 + dice.below(4500));
    cloud.fake.troubled(Troubles { lag, ..Troubles::default() });
}

fn a_list_fails(cloud: &Cloud, dice: &mut Dice) {
    let list = ["servers", "ssh_keys", "primary_ips"][usize::try_from(dice.below(3)).expect("small")];
    let how = [(404, "not_found"), (403, "forbidden"), (500, "server_error")];
    let how = how[usize::try_from(dice.below(3)).expect("small")];
    cloud.fake.troubled(Troubles { lists: [(list, how)].into(), ..Troubles::default() });
}

/// As by an action that goes on and on: longer than a run is let alone.
fn servers_are_locked(cloud: &Cloud, dice: &mut Dice) {
    let locked = Duration::from_millis(2000 + dice.below(10_000));
    cloud.fake.troubled(Troubles { locked, ..Troubles::default() });
}

fn calm(cloud: &Cloud) {
    cloud.fake.chaos(0, 0);
    cloud.fake.troubled(Troubles::default());
}
