//! What BuildKit refuses in a file before it builds, beyond its syntax: platforms, circles of stages, and what variables
//! make of the instructions of the stages that are built. Not responsible for: what the names in a file mean.

use std::collections::{BTreeMap, BTreeSet};

use super::budget::{Budget, TOO_MUCH};
use super::evaluate::{Context, Scope, evaluate};
use super::expand::{Nothing, expand};
use super::lint::Rules;
use super::steps::{Dockerfile, Source, Stage, Step, StepKind};
use super::word::Word;
use super::{platform as platforms_of, trigger};
use crate::domain::base::{Platform, Span};
use crate::domain::model::{DockerfileFault, DockerfileFaultKind};

pub(super) use super::evaluate::{Asked, Images};

/// The stages that each stage is based on or takes from, with the places that name them.
pub(super) type Taken = [Vec<(usize, Span)>];

/// Whether `COPY --from=` takes the text as it is: nothing in it is replaced.
pub(super) fn is_plain(text: &str, escape: char) -> bool {
    expand(text, escape, &Nothing, &Budget::default()).is_ok_and(|found| found.text == text)
}

/// The value of `FROM --platform=`.
pub(super) fn platform(
    word: &Word,
    escape: char,
    values: &BTreeMap<String, String>,
    builder: &Platform,
    budget: &Budget,
) -> Result<Platform, DockerfileFault> {
    let fault = |message: String, help: &str| DockerfileFault {
        kind: DockerfileFaultKind::Variable,
        message,
        span: Some(word.span),
        help: Some(help.to_owned()),
    };
    let help = "write a platform, such as `linux/arm64` or `$BUILDPLATFORM`";
    let found = expand(&word.text, escape, values, budget).map_err(|what| {
        fault(format!("`{}`: {what}", word.text), "variables are `$NAME`, `${NAME}` or `${NAME:-default}`")
    })?;
    match platforms_of::parse(&found.text) {
        // A system alone is meant for the builder's architecture.
        Ok(platform) if platform.architecture().is_empty() => {
            Ok(Platform::of(platform.os(), builder.normalised().architecture(), ""))
        }
        // `linux/arm64/v8` stays as it is written.
        Ok(platform) if Platform::new(&found.text).normalised() == platform => Ok(Platform::new(&found.text)),
        Ok(platform) => Ok(platform),
        Err(_) if found.text.is_empty() => Err(fault(format!("the platform `{}` is empty", word.text), help)),
        Err(what) => Err(fault(what, help)),
    }
}

/// The faults of all `FROM --platform=`, in stages that are built and in others.
pub(super) fn platforms(
    file: &Dockerfile,
    values: &BTreeMap<String, String>,
    builder: &Platform,
) -> Vec<DockerfileFault> {
    let (words, budget) = (file.stages.iter().filter_map(|stage| stage.platform.as_ref()), Budget::default());
    let mut faults = Vec::new();
    for word in words {
        faults.extend(platform(word, file.escape, values, builder, &budget).err());
        // What comes behind it would be refused for nothing else.
        if budget.is_spent() {
            break;
        }
    }
    faults
}

/// Reports circles of stages that are not built. BuildKit refuses them anywhere; in stages that are built, an order that
/// cannot be kept is reported whether it is a circle or not.
pub(super) fn circles(file: &Dockerfile, taken: &Taken, reached: &BTreeSet<usize>) -> Vec<DockerfileFault> {
    let circle = circle_of(file, taken);
    let mut faults = Vec::new();
    for (index, taken) in taken.iter().enumerate().filter(|(index, _)| !reached.contains(index)) {
        for (stage, span) in copied(file, index, taken).filter(|(stage, _)| *stage >= index) {
            if circle[stage] != circle[index] {
                continue;
            }
            let message = match stage == index {
                true => "a stage that nothing needs takes from itself",
                false => "a stage that nothing needs takes from a later one that takes from it",
            };
            faults.push(DockerfileFault {
                kind: DockerfileFaultKind::UnknownStage,
                message: message.to_owned(),
                span: Some(span),
                help: Some("BuildKit refuses that even so: name an earlier stage, or take the stage out".to_owned()),
            });
        }
    }
    faults
}

/// The stage that a stage is based on: the first that its FROM names; triggers follow it.
pub(super) fn base_of(file: &Dockerfile, index: usize, taken: &[(usize, Span)]) -> Option<usize> {
    let first = taken.first().filter(|(_, span)| *span == file.stages[index].from.span);
    // A FROM sees earlier stages only; what is not earlier comes from a trigger.
    first.map(|(base, _)| *base).filter(|base| *base < index)
}

/// The stages that a stage copies from or mounts by itself.
fn copied<'a>(
    file: &'a Dockerfile,
    index: usize,
    taken: &'a [(usize, Span)],
) -> impl Iterator<Item = (usize, Span)> + 'a {
    let own = file.stages[index].needs.sources.iter().map(|source| match source {
        Source::Copy(word) | Source::Mount(word) => word.span,
    });
    let own: BTreeSet<Span> = own.collect();
    taken.iter().copied().filter(move |(_, span)| own.contains(span))
}

/// For each stage the circle of stages that take from each other; alone it is a circle of its own.
fn circle_of(file: &Dockerfile, taken: &Taken) -> Vec<usize> {
    let mut graph = petgraph::graph::DiGraph::<(), ()>::new();
    let nodes: Vec<_> = taken.iter().map(|_| graph.add_node(())).collect();
    for (index, one) in taken.iter().enumerate() {
        for (stage, _) in copied(file, index, one) {
            graph.add_edge(nodes[index], nodes[stage], ());
        }
    }
    let mut circle = vec![0; taken.len()];
    for (number, members) in petgraph::algo::kosaraju_scc(&graph).into_iter().enumerate() {
        for member in members {
            circle[member.index()] = number;
        }
    }
    circle
}

/// What the variables of a build are.
pub(super) struct Given<'a> {
    /// Those that FROM sees.
    pub globals: &'a BTreeMap<String, String>,
    pub build_args: &'a BTreeMap<String, String>,
    pub images: Images,
    pub rules: &'a Rules,
    /// Whether another frontend than BuildKit's own reads the file.
    pub frontend: bool,
}

fn too_much(stage: &Stage) -> DockerfileFault {
    let message = format!("stage `{}`: {TOO_MUCH}", stage.from.text);
    let help = Some("shorten the values of its ENV and ARG, or take stages out".to_owned());
    DockerfileFault { kind: DockerfileFaultKind::Variable, message, span: Some(stage.from.span), help }
}

/// Goes through the instructions of the stages that are built, triggers of stages of this file included.
pub(super) fn go_through(file: &Dockerfile, taken: &Taken, reached: &BTreeSet<usize>, given: &Given<'_>) -> Asked {
    let context = Context {
        escape: file.escape,
        globals: given.globals,
        build_args: given.build_args,
        rules: given.rules,
        frontend: given.frontend,
        budget: Budget::default(),
    };
    let mut asked = Asked::default();
    let mut scopes: BTreeMap<usize, Scope> = BTreeMap::new();
    for index in reached {
        let stage = &file.stages[*index];
        let base = base_of(file, *index, &taken[*index]);
        let below = base.and_then(|base| scopes.get(&base));
        if below.is_some_and(|below| !context.budget.take(below.size())) {
            asked.faults.push(too_much(stage));
            break;
        }
        let known = below.map(Scope::inherited);
        let mut scope = known.unwrap_or_else(|| Scope::new(given.images, stage.from.text == "scratch"));
        let mut triggered = Vec::new();
        for step in base.into_iter().flat_map(|base| &file.stages[base].steps) {
            let StepKind::OnBuild(text) = &step.kind else { continue };
            match trigger::read(&text.text, stage.from.span) {
                Ok(trigger) => triggered.push(unfit_as(step, trigger, stage.from.span)),
                Err(what) => asked.faults.push(
                    DockerfileFault::parse(text.span, format!("what ONBUILD triggers is not an instruction: {what}"))
                        .help("write an instruction that a stage may have, such as `ONBUILD RUN …`"),
                ),
            }
        }
        evaluate(&context, triggered.iter().chain(&stage.steps), &mut scope, &mut asked);
        if context.budget.is_spent() {
            break;
        }
        scopes.insert(*index, scope);
    }
    asked.faults.extend(asked.context.fault());
    asked
}

/// A trigger whose command a stage of this file brings as it is written: BuildKit has its bytes, not those of JSON.
fn unfit_as(written: &Step, trigger: Step, place: Span) -> Step {
    let unfit = written.unfit.clone().map(|word| Word { span: place, ..word });
    Step { unfit: unfit.or(trigger.unfit), ..trigger }
}
