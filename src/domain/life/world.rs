//! A simulated world for the properties: it owes a run one answer for each effect that needs one, answers as a random
//! seed decides, and checks every effect against what must always hold. It knows nothing of the run's internals.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::pieces::{SIZES, is_work_of, place, price, size};
use super::*;
use crate::domain::base::{Digest, LayerName, LeaseId, Timestamp};
use crate::domain::model::{EventBody, Fault, FaultClass, FaultKind, Outcome, Size};

/// A lease as its provider knows it.
struct Rented {
    place: Placement,
    /// The granted size; before that, the requested one.
    index: usize,
    asked: Timestamp,
    /// How long it was on the bill, once it is off.
    over: Option<Duration>,
    void: bool,
    /// Whether its lifetime is over.
    expired: bool,
    /// How many steps were brought to it.
    synced: usize,
}

pub struct World {
    specs: BTreeMap<LayerName, StepSpec>,
    limits: Limits,
    /// The hosts of a fixed list, by number: `platform * SIZES + size`; `None` if there are always enough.
    hosts: Option<Vec<usize>>,
    taken: BTreeMap<LeaseId, usize>,
    unwanted: BTreeSet<LeaseId>,
    /// What must be answered, with the time at which timers are due.
    owed: Vec<(Timestamp, Effect)>,
    now: Timestamp,
    /// Random numbers from this one on mean failure.
    bad: u8,
    rented: BTreeMap<LeaseId, Rented>,
    pub held: BTreeSet<LeaseId>,
    pub given_back: BTreeMap<LeaseId, usize>,
    pub ended: BTreeMap<LayerName, Outcome>,
    /// The layers whose key this run has claimed.
    claimed: BTreeSet<LayerName>,
    oom_retries: BTreeMap<LayerName, u32>,
    /// The memory of the runner on which a layer ran out of memory.
    died_on: BTreeMap<LayerName, u32>,
    active: BTreeSet<LayerName>,
    /// The leases that a step uses, and which step.
    busy: BTreeSet<LeaseId>,
    on: BTreeMap<LayerName, LeaseId>,
    /// A lease that could not be released no longer counts.
    stuck: bool,
    pub finished: bool,
    /// Whether everything is answered well, and only what does not wait for the clock.
    pub patient: bool,
    pub inputs: usize,
    pub journal: Vec<(Timestamp, Input)>,
}

impl World {
    pub fn new(specs: &[StepSpec], limits: Limits, hosts: Option<Vec<usize>>, bad: u8) -> Self {
        Self {
            specs: specs.iter().map(|spec| (spec.layer.clone(), spec.clone())).collect(),
            limits,
            hosts,
            taken: BTreeMap::new(),
            unwanted: BTreeSet::new(),
            owed: Vec::new(),
            now: Timestamp(0),
            bad,
            rented: BTreeMap::new(),
            held: BTreeSet::new(),
            given_back: BTreeMap::new(),
            ended: BTreeMap::new(),
            claimed: BTreeSet::new(),
            oom_retries: BTreeMap::new(),
            died_on: BTreeMap::new(),
            active: BTreeSet::new(),
            busy: BTreeSet::new(),
            on: BTreeMap::new(),
            stuck: false,
            finished: false,
            patient: false,
            inputs: 0,
            journal: Vec::new(),
        }
    }

    /// The leases that were asked for and are not given back.
    pub fn open(&self) -> BTreeSet<LeaseId> {
        self.rented.keys().filter(|lease| !self.given_back.contains_key(*lease)).cloned().collect()
    }

    /// Updates the world by what it tells the run.
    pub fn told(&mut self, at: Timestamp, input: &Input) {
        self.journal.push((at, input.clone()));
        match input {
            Input::LeaseGranted { lease, memory_gb, .. } => {
                if let Some(rented) = self.rented.get_mut(lease).filter(|_| self.held.contains(lease)) {
                    rented.index = (memory_gb / 4).trailing_zeros() as usize;
                }
            }
            Input::LeaseRefused { lease, fault } if self.held.contains(lease) => {
                if let Some(rented) = self.rented.get_mut(lease) {
                    rented.void = matches!(
                        fault.class(),
                        FaultClass::Unavailable | FaultClass::Denied | FaultClass::Configuration
                    );
                }
            }
            Input::TimerFired { timer: Timer::Lifetime { lease } } => {
                if let Some(rented) = self.rented.get_mut(lease) {
                    rented.expired = true;
                }
            }
            Input::Released { lease } if self.given_back.contains_key(lease) => {
                if let Some(rented) = self.rented.get_mut(lease) {
                    rented.over.get_or_insert(at.since(rented.asked));
                }
            }
            _ => {}
        }
    }

    /// What the leases have cost so far, in hours started since each was requested.
    fn cost(&self, at: Timestamp) -> u64 {
        let cost = |rented: &Rented| {
            let free = self.limits.prices.is_empty() || rented.void && rented.over.is_some();
            let lived = rented.over.unwrap_or_else(|| at.since(rented.asked));
            u64::from(!free) * price(rented.index) * (lived.as_millis().div_ceil(3_600_000).max(1) as u64)
        };
        self.rented.values().map(cost).sum()
    }

    fn affordable(&self, at: Timestamp, what: &str) {
        if let Some(most) = self.limits.max_cost_micros {
            assert!(self.cost(at) <= most, "{what} starts at {} of {most}", self.cost(at));
        }
    }

    pub fn perform(&mut self, at: Timestamp, effects: Vec<Effect>) {
        self.now = at;
        for effect in effects {
            assert!(!self.finished, "an effect follows Finish: {effect:?}");
            match &effect {
                Effect::Emit(body) => self.hear(body),
                Effect::Acquire { lease, layer, size, place } => self.asked(at, lease, layer, (size, place)),
                Effect::Sync { layer, lease } => self.brought(at, layer, lease),
                Effect::Release { lease } => {
                    self.busy.remove(lease);
                    assert!(self.held.contains(lease), "{lease} is released but not held");
                }
                Effect::Abandon { lease } => {
                    assert!(!self.given_back.contains_key(lease), "{lease} is gone");
                    self.unwanted.insert(lease.clone());
                }
                Effect::Arm { timer: Timer::Lifetime { lease }, after } => {
                    let life = self.limits.max_lifetime.expect("a lifetime");
                    let safe = self.rented[lease].asked.plus(life - (life / 10).min(Duration::from_secs(60)));
                    assert!(at.plus(*after) <= safe.max(at), "{lease} may be used until it is gone");
                }
                Effect::Finish => {
                    self.finished = true;
                    assert_eq!(self.ended.len(), self.specs.len(), "a step is left at Finish");
                }
                _ => {}
            }
            if !matches!(effect, Effect::Emit(_) | Effect::Abandon { .. } | Effect::Finish) {
                let due = if let Effect::Arm { after, .. } = &effect { at.plus(*after) } else { at };
                self.owed.push((due, effect));
            }
        }
    }

    fn asked(&mut self, at: Timestamp, lease: &LeaseId, layer: &LayerName, (size, place): (&Size, &Placement)) {
        let index = (size.memory_gb / 4).trailing_zeros() as usize;
        let rented =
            Rented { place: place.clone(), index, asked: at, over: None, void: false, expired: false, synced: 0 };
        assert!(self.rented.insert(lease.clone(), rented).is_none(), "{lease} is asked for twice");
        let (open, most) = (self.rented.len() - self.given_back.len(), self.limits.max_leases);
        assert!(most == 0 || open <= most || self.stuck, "{open} leases at once");
        assert_eq!(self.specs[layer].place, *place, "{layer} asks for another place");
        self.larger(layer, size.memory_gb);
        self.affordable(at, lease.as_str());
        self.starts(layer);
    }

    fn brought(&mut self, at: Timestamp, layer: &LayerName, lease: &LeaseId) {
        assert!(self.held.contains(lease), "{layer} is on {lease}, which is not held");
        assert!(self.busy.insert(lease.clone()), "two steps at once are on {lease}");
        let (spec, rented) = (&self.specs[layer], &self.rented[lease]);
        assert_eq!(spec.place, rented.place, "{layer} is on a lease of another place");
        assert!(!rented.expired, "{layer} is on {lease}, whose lifetime is over");
        let memory_gb = 4 << rented.index;
        assert!(memory_gb >= spec.sizes[0].memory_gb, "{layer} is on {lease}, which is too small");
        if let (Some(life), true) = (self.limits.max_lifetime, rented.synced > 0) {
            let usable = life - (life / 10).min(Duration::from_secs(60));
            let budget = Duration::from_secs(u64::from(spec.sizes[0].time_budget_min) * 60);
            let left = rented.asked.plus(usable).since(at);
            assert!(budget > usable || left >= budget, "{layer} is on {lease}, which will not live as long");
        }
        self.larger(layer, memory_gb);
        self.affordable(at, layer.as_str());
        self.rented.entry(lease.clone()).and_modify(|rented| rented.synced += 1);
        self.starts(layer);
        self.on.insert(layer.clone(), lease.clone());
    }

    fn larger(&self, layer: &LayerName, memory_gb: u32) {
        let died_on = self.died_on.get(layer).copied().unwrap_or(0);
        assert!(memory_gb > died_on, "{layer} died on {died_on} GB and is tried on {memory_gb}");
    }

    fn starts(&mut self, layer: &LayerName) {
        assert!(!self.limits.claims || self.claimed.contains(layer), "{layer} gets a runner without its claim");
        if self.active.insert(layer.clone()) {
            let earlier =
                |(_, effect): &(Timestamp, Effect)| matches!(effect, Effect::Claim { layer: other } if other < layer);
            assert!(!self.owed.iter().any(earlier), "{layer} starts while an earlier claim is open");
        }
        assert!(self.active.len() <= self.limits.width, "wider than {}: {:?}", self.limits.width, self.active);
        for parent in &self.specs[layer].parents {
            let outcome = self.ended.get(parent);
            assert!(matches!(outcome, Some(Outcome::Built | Outcome::Reused)), "{layer} starts before {parent}");
        }
    }

    fn hear(&mut self, body: &EventBody) {
        match body {
            EventBody::StepFinished(end) => {
                assert!(self.ended.insert(end.layer.clone(), end.outcome).is_none(), "{} ends twice", end.layer);
                if end.fault.as_ref().is_some_and(|fault| fault.code == "lian::life::lifetime")
                    && end.outcome == Outcome::Failed
                {
                    let lease = &self.rented[&self.on[&end.layer]];
                    assert_eq!(lease.synced, 1, "{} fails for the age that others gave its lease", end.layer);
                }
                self.leave(&end.layer);
                if end.outcome == Outcome::Skipped && end.because.is_some() {
                    assert!(!self.specs[&end.layer].parents.is_empty(), "{} is skipped, has no parent", end.layer);
                }
            }
            EventBody::StepRetried { layer, fault, .. } => {
                let class = fault.class();
                let outlived = fault.kind == FaultKind::Timeout;
                let passing = matches!(class, FaultClass::OutOfMemory | FaultClass::Infrastructure);
                assert!(passing || outlived, "{layer} is tried again after {class:?}");
                if class == FaultClass::OutOfMemory {
                    let count = self.oom_retries.entry(layer.clone()).or_default();
                    *count += 1;
                    assert!(*count <= MAX_OOM_RETRIES, "{layer}: more than one OOM retry");
                    let died_on = self.on.get(layer).map_or(0, |lease| 4 << self.rented[lease].index);
                    self.died_on.insert(layer.clone(), died_on);
                }
                self.leave(layer);
            }
            EventBody::LeaseStuck { .. } => self.stuck = true,
            EventBody::StepPhase { layer, phase } if phase == "leasing" => self.starts(layer),
            _ => {}
        }
    }

    fn leave(&mut self, layer: &LayerName) {
        self.active.remove(layer);
        self.claimed.remove(layer);
        if let Some(lease) = self.on.remove(layer) {
            self.busy.remove(&lease);
        }
    }

    /// Answers one pending effect, well or badly as the seed decides.
    pub fn answer(&mut self, pick: usize, dice: u8) -> Option<Input> {
        // Sometimes a clock runs fast.
        let due = |due: &Timestamp| *due <= self.now || dice.is_multiple_of(32);
        let may = |(at, effect): &(Timestamp, Effect)| match effect {
            _ if self.patient => !is_by_the_clock(effect) && self.can_answer(effect),
            Effect::Arm { .. } => due(at),
            effect => self.can_answer(effect),
        };
        let answerable: Vec<usize> =
            self.owed.iter().enumerate().filter(|(_, owed)| may(owed)).map(|(index, _)| index).collect();
        let pick = *answerable.get(pick % answerable.len().max(1))?;
        let (_, effect) = self.owed.remove(pick);
        let fault = match (dice % 6, dice / 6 % 3) {
            (0, _) => Fault::new(FaultKind::OutOfMemory, "lian::test", "dice"),
            (1, _) => Fault::new(FaultKind::Infrastructure, "lian::test", "dice"),
            (2, 0) => Fault::new(FaultKind::Unavailable, "lian::test", "dice"),
            (2, 1) => Fault::denied("lian::test", "dice"),
            (2, _) => Fault::configuration("lian::test", "dice"),
            _ => Fault::new(FaultKind::Build, "lian::test", "dice"),
        };
        let bad = !self.patient && dice >= self.bad;
        Some(match effect {
            // A refused request may have created something: its answer was lost.
            Effect::Acquire { lease, .. } if bad || self.is_refused(&lease, dice) => {
                self.held.insert(lease.clone());
                Input::LeaseRefused { lease, fault }
            }
            Effect::Acquire { lease, .. } => self.grant(lease, dice),
            Effect::Release { lease } if bad && self.hosts.is_none() => {
                Input::ReleaseFailed { lease, message: "dice".into(), is_final: dice.is_multiple_of(8) }
            }
            Effect::Release { lease } => {
                *self.given_back.entry(lease.clone()).or_default() += 1;
                self.held.remove(&lease);
                self.taken.remove(&lease);
                Input::Released { lease }
            }
            Effect::Arm { timer, .. } => Input::TimerFired { timer },
            Effect::Kill { layer, .. } => {
                // What was killed does not answer any more.
                self.owed.retain(|(_, owed)| !is_work_of(owed, &layer));
                Input::Killed { layer }
            }
            Effect::Claim { layer } | Effect::AwaitClaim { layer } if bad => Input::Faulted { layer, fault },
            Effect::Claim { layer } if dice.is_multiple_of(4) && !self.patient => Input::ClaimTaken { layer },
            Effect::Claim { layer } | Effect::AwaitClaim { layer } if dice.is_multiple_of(16) => {
                Input::Found { layer, digest: Digest::of([dice]) }
            }
            Effect::Claim { layer } | Effect::AwaitClaim { layer } => {
                self.claimed.insert(layer.clone());
                Input::Claimed { layer }
            }
            Effect::Sync { layer, .. } | Effect::Build { layer, .. } | Effect::Verify { layer, .. } if bad => {
                Input::Faulted { layer, fault }
            }
            Effect::Promote { layer } if bad => Input::Faulted { layer, fault },
            Effect::Sync { layer, .. } => Input::Synced { layer },
            Effect::Build { layer, .. } => {
                Input::BuildDone { layer, digest: Digest::of([dice]), steps: 3, cached: 1, measured: None }
            }
            Effect::Verify { layer, .. } => Input::Verified { layer },
            Effect::Promote { layer } => Input::Promoted { layer },
            Effect::Record { layer, .. } => Input::Recorded { layer },
            Effect::Emit(_) | Effect::Abandon { .. } | Effect::Finish => return None,
        })
    }

    fn is_refused(&self, lease: &LeaseId, dice: u8) -> bool {
        let none_free = self.hosts.is_some() && self.free(lease).is_none();
        self.unwanted.contains(lease) && (dice.is_multiple_of(2) || none_free)
    }

    /// Grants the requested size, sometimes a larger one; of fixed hosts, the smallest that is free.
    fn grant(&mut self, lease: LeaseId, dice: u8) -> Input {
        let larger = usize::from(dice.is_multiple_of(5) && self.hosts.is_none());
        let mut index = (self.rented[&lease].index + larger).min(SIZES - 1);
        if let Some(host) = self.free(&lease) {
            index = host.1 % SIZES;
            self.taken.insert(lease.clone(), host.0);
        }
        self.held.insert(lease.clone());
        let Size { runner_type, cpu, memory_gb, .. } = size(index, 1);
        Input::LeaseGranted { lease, runner_type, cpu, memory_gb }
    }

    /// The host that a request would get, with its position in the list.
    fn free(&self, lease: &LeaseId) -> Option<(usize, usize)> {
        let request = &self.rented[lease];
        let fits = |host: usize| host % SIZES >= request.index && place(host / SIZES) == request.place;
        let free = |index: &usize| !self.taken.values().any(|taken| taken == index);
        let hosts = self.hosts.as_ref()?.iter().copied().enumerate();
        hosts.filter(|(index, _)| free(index)).find(|(_, host)| fits(*host))
    }

    /// A provider of fixed hosts answers once a host is free, or once nobody waits for one.
    fn can_answer(&self, effect: &Effect) -> bool {
        match effect {
            Effect::Acquire { lease, .. } if self.hosts.is_some() => {
                self.unwanted.contains(lease) || self.free(lease).is_some()
            }
            _ => true,
        }
    }
}

fn is_by_the_clock(effect: &Effect) -> bool {
    matches!(effect, Effect::Arm { timer: Timer::Budget { .. } | Timer::Lifetime { .. } | Timer::Turn { .. }, .. })
}
