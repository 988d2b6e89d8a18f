//! The worlds that runs live in: what is wrong around a run, as values of one table. Not responsible for: what befalls the
//! run itself (see `blows`).

use std::time::Duration;

use super::Dice;
use super::blows::Blow;
use super::hosts::Pair;
use super::node;
use super::stage::Stage;
use crate::support::hetzner::{FaultPlan, Kind, LabelTrouble, Troubles};

/// Where the runners of a world are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A cloud.
    Cloud,
    /// Two hosts of one's own.
    Hosts,
    /// A node of Proxmox VE.
    Node,
    /// A pool that rents from the cloud.
    Pool,
}

/// A world: what is wrong around a run. Whatever it is, nothing may be left and no event may be lost.
pub struct World {
    /// As told in the output.
    pub name: &'static str,
    /// Makes it so, before the run; says what the dice decided.
    pub begin: fn(&Stage, &mut Dice) -> String,
    /// Makes it whole again, after the run and before what the run left is looked at.
    pub end: fn(&Stage),
    pub place: Place,
    /// What befalls its runs, where it is always the same.
    pub blow: Option<Blow>,
    /// Whether a run that nothing befalls must end well.
    pub ends_well: bool,
    pub boot_timeout_s: u32,
    /// How long a run may take before it is killed.
    pub patience: Duration,
}

type Begin = fn(&Stage, &mut Dice) -> String;

const fn world(name: &'static str, begin: Begin, end: fn(&Stage)) -> World {
    let (boot_timeout_s, patience) = (60, Duration::from_secs(90));
    World { name, begin, end, place: Place::Cloud, blow: None, ends_well: false, boot_timeout_s, patience }
}

const fn node(name: &'static str, begin: Begin) -> World {
    World { place: Place::Node, ..world(name, begin, node::forgive) }
}

const fn pool(name: &'static str, begin: Begin) -> World {
    World { place: Place::Pool, ..world(name, begin, calm_with_a_pool) }
}

/// Every world; a run lives in one of them. The first one is quiet.
pub const WORLDS: &[World] = &[
    World { ends_well: true, ..world("quiet", |_, _| String::new(), |_| {}) },
    world("few faults", |stage, dice| faults(stage, dice, 10), calm),
    world("many faults", many_faults, calm),
    world("labels dropped", |stage, _| labels(stage, LabelTrouble::Dropped), calm),
    world("labels forgotten", |stage, _| labels(stage, LabelTrouble::Forgotten), calm),
    world("lists lag", lists_lag, calm),
    world("a list fails", a_list_fails, calm),
    world("servers are locked", servers_are_locked, calm),
    World { patience: Duration::from_secs(12), ..world("an action runs for an hour", an_action_of_an_hour, calm) },
    World {
        ends_well: true,
        ..world("this machine's clock is off", |stage, dice| clocks(stage, dice, true), by_the_clock)
    },
    World {
        ends_well: true,
        ..world("the servers' clocks are off", |stage, dice| clocks(stage, dice, false), by_the_clock)
    },
    World { ends_well: true, boot_timeout_s: 15, ..world("a sick server", a_sick_server, all_well) },
    World { boot_timeout_s: 15, ..world("an address with another key", another_key, all_well) },
    World { ends_well: true, place: Place::Hosts, ..world("a sick host beside a healthy one", a_sick_host, |_| {}) },
    World { blow: Some(Blow::DaemonsForSeconds), ..world("daemons that come back", |_, _| String::new(), |_| {}) },
    World {
        place: Place::Hosts,
        blow: Some(Blow::DaemonsForSeconds),
        ends_well: true,
        ..world("daemons of hosts that come back", two_hosts, |_| {})
    },
    World { ends_well: true, ..node("a quiet node", |_, _| String::new()) },
    node("a node with faults", node::faults),
    node("a node that loses marks", node::unmarked),
    node("a node whose list lags", node::lists_lag),
    World { patience: Duration::from_secs(12), ..node("a node whose tasks go on for ever", node::endless_tasks) },
    World { blow: Some(Blow::NodeFallsSilent), ..node("a node that falls silent", node::silence_to_come) },
    World { ends_well: true, ..pool("a quiet pool", |_, _| String::new()) },
    pool("a pool over few faults", |stage, dice| faults(stage, dice, 10)),
    pool("a pool over labels that are dropped", |stage, _| labels(stage, LabelTrouble::Dropped)),
    pool("a pool over lists that lag", lists_lag),
    World { patience: Duration::from_secs(12), ..pool("a pool over an action of an hour", an_action_of_an_hour) },
    World { blow: Some(Blow::PoolDies), ..pool("a pool that dies", |_, _| String::new()) },
    World { blow: Some(Blow::PoolComesBack), ..pool("a pool that dies and comes back", |_, _| String::new()) },
    World { blow: Some(Blow::PoolAndClientDie), ..pool("a pool that dies with its client", |_, _| String::new()) },
    World { blow: Some(Blow::PoolHangs), ..pool("a pool that hangs", |_, _| String::new()) },
];

fn faults(stage: &Stage, dice: &mut Dice, permille: u64) -> String {
    stage.cloud.fake.chaos(dice.seed(), permille);
    String::new()
}

/// One of them at once: few requests are made in all.
fn many_faults(stage: &Stage, dice: &mut Dice) -> String {
    stage.cloud.fake.fail_next(FaultPlan::new("*", Kind::Status(502, "bad_gateway")));
    faults(stage, dice, 80)
}

fn labels(stage: &Stage, labels: LabelTrouble) -> String {
    stage.cloud.fake.troubled(Troubles { labels, ..Troubles::default() });
    String::new()
}

/// Longer than most runs, and shorter than a list of the real API ever lagged.
fn lists_lag(stage: &Stage, dice: &mut Dice) -> String {
    stage.cloud.fake.chaos(dice.seed(), 20);
    let lag = Duration::from_millis(500 + dice.below(4500));
    stage.cloud.fake.troubled(Troubles { lag, ..Troubles::default() });
    format!(" by {lag:?}")
}

fn a_list_fails(stage: &Stage, dice: &mut Dice) -> String {
    let list = *dice.pick(&["servers", "ssh_keys", "primary_ips"]);
    let how = *dice.pick(&[(404, "not_found"), (403, "forbidden"), (500, "server_error")]);
    stage.cloud.fake.troubled(Troubles { lists: [(list, how)].into(), ..Troubles::default() });
    format!(": {list} with {}", how.0)
}

/// As by an action that goes on and on: longer than a run is let alone.
fn servers_are_locked(stage: &Stage, dice: &mut Dice) -> String {
    let locked = Duration::from_millis(2000 + dice.below(10_000));
    stage.cloud.fake.troubled(Troubles { locked, ..Troubles::default() });
    format!(" for {locked:?}")
}

/// No run outlives it: each is killed while it waits.
fn an_action_of_an_hour(stage: &Stage, _: &mut Dice) -> String {
    stage.cloud.fake.troubled(Troubles { locked: Duration::from_secs(3600), ..Troubles::default() });
    String::new()
}

/// A clock is hours ahead or behind: this machine's, or those of the API and of the servers. Two leases of somebody else
/// are there: one that lives for another hour, one that ended an hour ago.
fn clocks(stage: &Stage, dice: &mut Dice, ours: bool) -> String {
    let hours = *dice.pick(&[7, -7, 2, -2]);
    if ours {
        stage.cloud.clock_ahead(hours);
    } else {
        stage.cloud.fake.clock_ahead(hours * 3600);
        stage.cloud.hosts.clock_ahead(hours);
    }
    for (lease, left) in [(LIVING, 1), (EXPIRED, -1)] {
        let expires = (stage.cloud.fake.seconds() + left * 3600).to_string();
        let labels = [("lian", "1"), ("lian-owner", "ben"), ("lian-lease", lease), ("lian-expires", &expires)];
        stage.cloud.fake.add_server(&format!("lian-ben-{lease}"), &labels);
    }
    format!(" by {hours} h")
}

const LIVING: &str = "ben-1";
const EXPIRED: &str = "ben-2";

/// By a clock that is off, the living lease stays and the one that ended goes.
fn by_the_clock(stage: &Stage) {
    let collected = stage.cloud.lian(&["leases", "gc"]).exits(0);
    let servers = stage.cloud.fake.servers();
    let is_there = |lease: &str| servers.iter().any(|server| server.name == format!("lian-ben-{lease}"));
    assert!(is_there(LIVING), "a living lease of somebody else was taken: {}", collected.both());
    assert!(!is_there(EXPIRED), "a lease that ended an hour ago stays: {}", collected.both());
    stage.cloud.fake.remove_server(&format!("lian-ben-{LIVING}"));
    stage.cloud.clock_ahead(0);
    stage.cloud.fake.clock_ahead(0);
    stage.cloud.hosts.clock_ahead(0);
}

/// The next server's daemon hangs from the beginning.
fn a_sick_server(stage: &Stage, _: &mut Dice) -> String {
    stage.cloud.hosts.sick(1);
    String::new()
}

/// Somebody else answers at the addresses of the next servers.
fn another_key(stage: &Stage, dice: &mut Dice) -> String {
    let servers = 1 + u32::try_from(dice.below(3)).expect("small");
    stage.cloud.fake.answers_with_other_keys(servers);
    format!(", {servers} times")
}

fn all_well(stage: &Stage) {
    stage.cloud.hosts.sick(0);
    stage.cloud.fake.answers_with_other_keys(0);
}

fn a_sick_host(stage: &Stage, dice: &mut Dice) -> String {
    let pair = Pair::boot();
    let how = pair.infect(dice);
    *stage.pair.borrow_mut() = Some(pair);
    format!(": {how}")
}

fn two_hosts(stage: &Stage, _: &mut Dice) -> String {
    *stage.pair.borrow_mut() = Some(Pair::boot());
    String::new()
}

fn calm_with_a_pool(stage: &Stage) {
    calm(stage);
    stage.pool().come_back();
}

fn calm(stage: &Stage) {
    stage.cloud.fake.forgive();
    stage.cloud.fake.troubled(Troubles::default());
}
