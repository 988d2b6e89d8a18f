//! Forecasts a plan's duration and cost on leased runners by simulating the run. Not responsible for: executing
//! anything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::domain::base::{Digest, LayerName, LeaseId, RunId, Timestamp};
use crate::domain::life::{Effect, Input, Limits, Placement, Run, StepSpec};
use crate::domain::model::{Action, EventBody, Fault, FaultKind, Forecast, Offer, Plan, PlannedStep, Size};

/// Time from requesting a cloud runner to building on it, as measured; the rest of a lease's overhead is negligible.
pub const BOOT: Duration = Duration::from_secs(45);

/// The runners that can be leased.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    /// Time from request to build.
    pub boot: Duration,
    /// The offers of a fixed list of hosts, each with one lease at a time; `None` if leases are unlimited.
    pub hosts: Option<Vec<Offer>>,
}

/// Simulates the run: every build takes its usual time and nothing fails.
pub fn forecast(plan: &Plan, specs: Vec<StepSpec>, limits: Limits, fleet: Fleet) -> Forecast {
    let currency = limits.currency.clone();
    let mut run = Run::new(RunId::from("forecast"), specs, limits);
    let mut forecast = Forecast { currency, ..Forecast::default() };
    let unknown = |step: &&PlannedStep| step.action == Action::Build && step.estimate_ms.is_none();
    forecast.unknown = plan.steps.iter().filter(unknown).count();
    let mut world = Simulation { plan, fleet, taken: BTreeMap::new(), waiting: Vec::new(), leases: BTreeSet::new() };
    // Future inputs, soonest first; the number keeps simultaneous ones in order.
    let mut coming: BTreeSet<(Timestamp, usize)> = BTreeSet::new();
    let mut inputs: Vec<Input> = vec![Input::Begin];
    coming.insert((Timestamp(0), 0));
    while let Some((at, index)) = coming.pop_first() {
        if run.is_finished() {
            break;
        }
        for effect in run.on(at, inputs[index].clone()) {
            if let Effect::Emit(body) = &effect
                && let EventBody::RunCost { micros, started_hours, .. } = **body
            {
                (forecast.micros, forecast.started_hours) = (micros, started_hours);
            }
            for (after, input) in world.answers(effect) {
                coming.insert((at.plus(after), inputs.len()));
                inputs.push(input);
            }
        }
        forecast.wall_ms = at.0;
    }
    forecast.leases = world.leases.len();
    forecast
}

struct Simulation<'a> {
    plan: &'a Plan,
    fleet: Fleet,
    /// Leased hosts of the fixed list, by index.
    taken: BTreeMap<LeaseId, usize>,
    /// Leases that wait for a host, in order of request.
    waiting: Vec<(LeaseId, Size, Placement)>,
    /// Granted leases.
    leases: BTreeSet<LeaseId>,
}

impl Simulation<'_> {
    /// The input that an effect causes, and its delay.
    fn answers(&mut self, effect: Effect) -> Vec<(Duration, Input)> {
        let now = Duration::ZERO;
        let answer = match effect {
            Effect::Acquire { lease, size, place, .. } => {
                self.waiting.push((lease, size, place));
                return self.grants();
            }
            Effect::Abandon { lease } => {
                let before = self.waiting.len();
                self.waiting.retain(|(waiting, ..)| *waiting != lease);
                if self.waiting.len() == before {
                    return Vec::new();
                }
                let fault = Fault::new(FaultKind::Unavailable, "lian::cli::forecast", "abandoned");
                (now, Input::LeaseRefused { lease, fault })
            }
            Effect::Release { lease } => {
                self.taken.remove(&lease);
                let mut answers = vec![(now, Input::Released { lease })];
                answers.extend(self.grants());
                return answers;
            }
            Effect::Claim { layer } | Effect::AwaitClaim { layer } => (now, Input::Claimed { layer }),
            Effect::Sync { layer, .. } => (now, Input::Synced { layer }),
            Effect::Build { layer, .. } => {
                let (digest, usual) = (Digest::of("forecast"), usual(self.plan, &layer));
                (usual, Input::BuildDone { layer, digest, steps: 0, cached: 0, measured: None })
            }
            Effect::Verify { layer, .. } => (now, Input::Verified { layer }),
            Effect::Promote { layer } => (now, Input::Promoted { layer }),
            Effect::Record { layer, .. } => (now, Input::Recorded { layer }),
            Effect::Kill { layer, .. } => (now, Input::Killed { layer }),
            Effect::Arm { timer, after } => (after, Input::TimerFired { timer }),
            Effect::Emit(_) | Effect::Finish => return Vec::new(),
        };
        vec![answer]
    }

    /// Grants free hosts to waiting leases.
    fn grants(&mut self) -> Vec<(Duration, Input)> {
        let mut granted = Vec::new();
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|(lease, size, place)| {
            let Some((runner_type, cpu, memory_gb)) = self.free(lease, size, place) else { return true };
            self.leases.insert(lease.clone());
            let lease = lease.clone();
            granted.push((self.fleet.boot, Input::LeaseGranted { lease, runner_type, cpu, memory_gb }));
            false
        });
        self.waiting = waiting;
        granted
    }

    fn free(&mut self, lease: &LeaseId, size: &Size, place: &Placement) -> Option<(String, u32, u32)> {
        let Some(hosts) = &self.fleet.hosts else {
            return Some((size.runner_type.clone(), size.cpu, size.memory_gb));
        };
        let fits =
            |host: &Offer| host.platform == place.platform && host.cpu >= size.cpu && host.memory_gb >= size.memory_gb;
        let free = |(index, host): &(usize, &Offer)| fits(host) && !self.taken.values().any(|taken| taken == index);
        let fitting = hosts.iter().enumerate().filter(free);
        let (index, host) = fitting.min_by_key(|(_, host)| (host.memory_gb, host.cpu))?;
        self.taken.insert(lease.clone(), index);
        Some((host.runner_type.clone(), host.cpu, host.memory_gb))
    }
}

fn usual(plan: &Plan, layer: &LayerName) -> Duration {
    let estimate = plan.step(layer).and_then(|step| step.estimate_ms);
    Duration::from_millis(estimate.unwrap_or(0)).min(Duration::from_secs(24 * 3600))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::model::LayerKey;

    fn step(name: &str, parents: &[&str], minutes: u64) -> (PlannedStep, StepSpec) {
        let size = Size {
            runner_type: "t".into(),
            cpu: 2,
            memory_gb: 4,
            time_budget_min: 600,
            tier: "language_default".into(),
        };
        let parents: Vec<LayerName> = parents.iter().map(|parent| LayerName::from(*parent)).collect();
        let (layer, sizes) = (LayerName::from(name), vec![size.clone()]);
        let spec = StepSpec { layer, parents: parents.clone(), reuse: None, place: Placement::default(), sizes };
        let step = PlannedStep {
            layer: name.into(),
            action: Action::Build,
            why: Vec::new(),
            key: LayerKey(Digest::of(name)),
            parents,
            wave: 1,
            size,
            image: name.to_owned().into(),
            digest: None,
            estimate_ms: (minutes > 0).then_some(minutes * 60_000),
        };
        (step, spec)
    }

    #[test]
    fn leases_are_packed_and_started_hours_counted() {
        let (steps, specs): (Vec<_>, Vec<_>) =
            [step("a", &[], 30), step("b", &["a"], 50), step("c", &["a"], 20), step("d", &["b"], 0)]
                .into_iter()
                .unzip();
        let prices = [("t".to_owned(), 10_000)].into();
        let limits = Limits { width: 2, packed: true, prices, currency: "EUR".into(), ..Limits::default() };
        let fleet = Fleet { boot: BOOT, hosts: None };
        let forecast = forecast(&Plan { steps }, specs, limits, fleet);
        // One runner takes a, b and d and enters its second hour; the other takes c.
        let expected = Forecast {
            leases: 2,
            started_hours: 3,
            wall_ms: (80 * 60 + 45) * 1000,
            currency: "EUR".into(),
            micros: 30_000,
            unknown: 1,
        };
        assert_eq!(forecast, expected);
    }

    #[test]
    fn a_fixed_host_boots_for_nobody_and_takes_one_layer_at_a_time() {
        let (steps, specs): (Vec<_>, Vec<_>) =
            [step("base", &[], 10), step("left", &["base"], 20), step("right", &["base"], 30)].into_iter().unzip();
        let plan = Plan { steps };
        let host = |name: &str, platform: &str| Offer {
            runner_type: name.into(),
            cpu: 2,
            memory_gb: 4,
            platform: platform.into(),
            price: None,
        };
        let minutes = |hosts: Vec<Offer>, packed| {
            let fleet = Fleet { boot: Duration::ZERO, hosts: Some(hosts) };
            let limits = Limits { width: 2, packed, ..Limits::default() };
            forecast(&plan, specs.clone(), limits, fleet).wall_ms / 60_000
        };
        for packed in [true, false] {
            assert_eq!(minutes(vec![host("one", "")], packed), 60, "packed: {packed}");
            assert_eq!(minutes(vec![host("one", ""), host("other", "linux/riscv64")], packed), 60, "packed: {packed}");
            assert_eq!(minutes(vec![host("one", ""), host("two", "")], packed), 40, "packed: {packed}");
        }
    }
}
