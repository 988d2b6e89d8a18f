//! A run that is played by hand: its clock, its inputs, and what came of the last one. Not responsible for: what is played
//! (see `examples`).

use super::pieces::{layer, place, size};
use super::*;
use crate::domain::base::{Digest, LayerName, LeaseId, RunId, Timestamp};
use crate::domain::model::{EventBody, Outcome};

pub const MINUTE: u64 = 60_000;

/// A run with its clock, and its latest effects.
pub struct Played {
    pub run: Run,
    pub at: Timestamp,
    pub effects: Vec<Effect>,
}

/// Steps `l00`, `l01`, … with these parents. Each has two sizes and a budget of half an hour.
pub fn play(parents: &[&[usize]], limits: Limits) -> Played {
    let spec = |(index, parents): (usize, &&[usize])| StepSpec {
        layer: layer(index),
        parents: parents.iter().copied().map(layer).collect(),
        reuse: None,
        place: place(0),
        sizes: vec![size(0, 30), size(1, 30)],
    };
    let run = Run::new(RunId::from("r"), parents.iter().enumerate().map(spec).collect(), limits);
    let mut played = Played { run, at: Timestamp(0), effects: Vec::new() };
    played.told(Input::Begin);
    played
}

pub fn packed() -> Limits {
    Limits { packed: true, ..Limits::default() }
}

pub fn lease(number: usize) -> LeaseId {
    LeaseId::new(format!("r-{number}"))
}

impl Played {
    pub fn told(&mut self, input: Input) {
        self.effects = self.run.on(self.at, input);
    }

    pub fn later(&mut self, minutes: u64) {
        self.at = Timestamp(self.at.0 + minutes * MINUTE);
    }

    pub fn granted(&mut self, number: usize, index: usize) {
        let size = size(index, 1);
        let (runner_type, cpu, memory_gb) = (size.runner_type, size.cpu, size.memory_gb);
        self.told(Input::LeaseGranted { lease: lease(number), runner_type, cpu, memory_gb });
    }

    /// Answers all effects of a step on a runner well, except for the last one.
    pub fn promoted(&mut self, index: usize) {
        let layer = layer(index);
        self.told(Input::Synced { layer: layer.clone() });
        let (digest, steps, cached) = (Digest::of([1]), 1, 0);
        self.told(Input::BuildDone { layer: layer.clone(), digest, steps, cached, measured: None });
        self.told(Input::Verified { layer: layer.clone() });
        self.told(Input::Promoted { layer });
    }

    pub fn built(&mut self, index: usize) {
        self.promoted(index);
        self.told(Input::Recorded { layer: layer(index) });
    }

    pub fn fired(&mut self, timer: Timer) {
        self.told(Input::TimerFired { timer });
    }

    /// The leases that layers were brought to, by the layer's number.
    pub fn synced(&self) -> Vec<(LayerName, LeaseId)> {
        let sync = |effect: &Effect| match effect {
            Effect::Sync { layer, lease } => Some((layer.clone(), lease.clone())),
            _ => None,
        };
        self.effects.iter().filter_map(sync).collect()
    }

    pub fn asked(&self) -> Vec<(LeaseId, String)> {
        let ask = |effect: &Effect| match effect {
            Effect::Acquire { lease, size, .. } => Some((lease.clone(), size.runner_type.clone())),
            _ => None,
        };
        self.effects.iter().filter_map(ask).collect()
    }

    pub fn wants(&self, wanted: &Effect) -> bool {
        self.effects.contains(wanted)
    }

    pub fn releases(&self, number: usize) -> bool {
        self.wants(&Effect::Release { lease: lease(number) })
    }

    /// How a layer has just ended, with the code of its fault.
    pub fn end(&self, index: usize) -> Option<(Outcome, Option<String>)> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Emit(body) => match &**body {
                EventBody::StepFinished(end) if end.layer == layer(index) => {
                    Some((end.outcome, end.fault.as_ref().map(|fault| fault.code.clone())))
                }
                _ => None,
            },
            _ => None,
        })
    }

    pub fn failed_with(&self, index: usize) -> Option<String> {
        self.end(index).and_then(|(_, code)| code)
    }
}
