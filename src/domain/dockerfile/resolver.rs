//! Resolves what each stage of a Dockerfile names: images, stages, and what the triggers (`ONBUILD`) of its base ask for.
//! Not responsible for: which stages are needed.

use std::collections::{BTreeMap, BTreeSet, HashSet};

#[cfg(test)]
use super::budget::done;
use super::budget::{Budget, TOO_MUCH};
use super::decider::{Decider, Globals};
use super::stage_names::StageNames;
use super::steps::{Arg, Dockerfile, Needs, SCRATCH, Source};
use super::word::Word;
use super::{checks, expand, lint_from};
use crate::domain::base::{Platform, Platforms, Span, nearest};
use crate::domain::model::{DockerfileFault, DockerfileFaultKind, ImageRef, ImageUse, StagePlatform, Trigger, UseKind};

/// The triggers of images: what their `ONBUILD` lines ask for, by familiar name.
pub type Triggers = BTreeMap<String, Needs>;

/// What a Dockerfile is read for.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// The stage to build; the last one if `None`.
    pub target: Option<&'a str>,
    /// The values of `ARG`s.
    pub build_args: &'a BTreeMap<String, String>,
    /// What the image is built for: the `TARGET*` variables.
    pub platforms: &'a Platforms,
    /// What builds it: the `BUILD*` variables.
    pub builder: &'a Platform,
    /// Whether the layer names a frontend of its own, which may know more than BuildKit's.
    pub frontend: bool,
    /// The triggers of images that stages may be based on.
    pub triggers: &'a Triggers,
}

impl<'a> Reading<'a> {
    fn globals(&self, file: &'a Dockerfile) -> Globals<'a> {
        Globals { file, build_args: self.build_args, target: self.target }
    }
}

/// The image on which a stage is based.
#[derive(Debug, Clone)]
pub(super) struct Base {
    /// In familiar form.
    pub image: String,
    /// The word of the `FROM`.
    pub from: Span,
}

/// A stage of the file that another one takes from.
pub(super) struct StageUse {
    /// Its index.
    pub stage: usize,
    /// As written.
    text: String,
    /// The place in this file.
    pub span: Span,
    /// The image whose trigger takes from it; `None` for words of this file.
    by: Option<String>,
}

/// What a stage names, sorted by kind.
#[derive(Default)]
pub(super) struct Resolved<'a> {
    /// Images that are not stages of this file.
    pub images: Vec<ImageUse>,
    /// What the `--platform=` of its FROM makes of the image that it begins with.
    pub begins: Option<StagePlatform>,
    /// Stages of this file.
    pub stages: Vec<StageUse>,
    /// Stages that BuildKit looks up and takes nothing from.
    pub looked_at: Vec<usize>,
    /// Images, in familiar form, that BuildKit looks up and takes nothing from.
    pub looked_up: BTreeSet<String>,
    /// Faults of triggers: they count only in a stage that is built, since no other one runs them.
    pub triggered: Vec<DockerfileFault>,
    /// What its instructions and the triggers that it runs ask for; with the image that the triggers belong to, or
    /// `None` for words of this file.
    pub needs: Vec<(Option<Base>, &'a Needs)>,
    /// Whether it begins with `FROM scratch`.
    pub scratch: bool,
    /// Images, in familiar form, whose triggers were gone through.
    triggers_read: BTreeSet<String>,
}

/// A source, and who asks for it.
struct Asked<'a> {
    /// The stage that asks.
    stage: usize,
    source: &'a Source,
    /// The image whose trigger asks; `None` for words of this file.
    by: Option<&'a Base>,
    /// Whether something is taken from it. BuildKit looks up the sources of triggers that it does not run, too.
    taken: bool,
}

impl Asked<'_> {
    fn word(&self) -> &Word {
        match self.source {
            Source::Copy(word) | Source::Mount(word) => word,
        }
    }

    fn kind(&self) -> UseKind {
        match self.source {
            Source::Copy(_) => UseKind::Copy,
            Source::Mount(_) => UseKind::Mount,
        }
    }

    /// The place in this file.
    fn span(&self) -> Span {
        self.by.map_or(self.word().span, |base| base.from)
    }

    fn trigger(&self) -> Option<Trigger> {
        self.by.map(|base| Trigger { image: base.image.clone(), span: self.word().span })
    }
}

pub(super) struct Resolver<'a> {
    file: &'a Dockerfile,
    reading: Reading<'a>,
    platform: Platform,
    /// What FROM sees.
    pub values: BTreeMap<String, String>,
    /// The same if no build argument were given; `None` if that cannot be read.
    pub defaults: Option<BTreeMap<String, String>>,
    names: StageNames<'a>,
    /// What is declared before the first FROM.
    global_args: HashSet<&'a str>,
    /// What is declared in stages.
    stage_args: HashSet<&'a str>,
    pub faults: Vec<DockerfileFault>,
    budget: Budget,
}

impl<'a> Resolver<'a> {
    pub fn new(file: &'a Dockerfile, reading: &Reading<'a>, platform: &Platform) -> Self {
        let stage_args = file.stages.iter().flat_map(|stage| &stage.needs.args).map(|arg| arg.name.as_str());
        let platform = platform.normalised();
        let values = reading.globals(file).own_values(reading.builder, &platform);
        let defaults = lint_from::defaults(file, &values);
        let mut resolver = Self {
            file,
            reading: *reading,
            platform,
            values,
            defaults,
            names: StageNames::of(file),
            global_args: file.args.iter().map(|arg| arg.name.as_str()).collect(),
            stage_args: stage_args.collect(),
            faults: Vec::new(),
            budget: Budget::default(),
        };
        for arg in &file.args {
            resolver.declare(arg);
            if resolver.budget.is_spent() {
                break;
            }
        }
        resolver
    }

    fn declare(&mut self, arg: &Arg) {
        let value = match (self.reading.build_args.get(&arg.name), &arg.default) {
            (Some(given), _) => self.budget.copy(given),
            (None, Some(default)) => self.expanded(default).map(|expanded| expanded.text),
            (None, None) => return,
        };
        match value {
            Ok(value) => {
                self.values.insert(arg.name.clone(), value);
            }
            Err(what) => self.fault(DockerfileFaultKind::Variable, arg.span, format!("`ARG {}`: {what}", arg.name)),
        }
    }

    fn expanded(&self, text: &str) -> Result<expand::Expanded, String> {
        expand::expand(text, self.file.escape, &self.values, &self.budget)
    }

    fn fault(&mut self, kind: DockerfileFaultKind, span: Span, message: String) {
        let help = Some("correct what is marked: variables are `$NAME`, `${NAME}` or `${NAME:-default}`".to_owned());
        self.faults.push(DockerfileFault { kind, message, span: Some(span), help });
    }

    pub fn target(&mut self, target: Option<&str>) -> Option<usize> {
        let Some(wanted) = target else { return self.file.stages.len().checked_sub(1) };
        let found = self.names.last(&wanted.to_lowercase());
        if found.is_none() {
            let help = self.stage_help(wanted);
            self.faults.push(DockerfileFault {
                kind: DockerfileFaultKind::UnknownStage,
                message: format!("the Dockerfile has no stage `{wanted}`"),
                span: None,
                help: Some(help),
            });
        }
        found
    }

    fn stage_help(&self, wanted: &str) -> String {
        let names: Vec<&str> = self.file.stages.iter().filter_map(|s| Some(s.name.as_ref()?.text.as_str())).collect();
        match nearest(&wanted.to_lowercase(), names.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if names.is_empty() => "it names no stages: write `FROM image AS name`".to_owned(),
            None => format!("its stages are `{}`", names.join("`, `")),
        }
    }

    pub fn stage(&mut self, index: usize) -> Resolved<'a> {
        let file = self.file;
        let mut resolved = Resolved::default();
        let base = self.from(index, &mut resolved);
        let own = self.faults.len();
        match base {
            // A stage that is based on another one of the same file runs that one's triggers.
            Some(Based::Stage(below)) => self.run(index, None, &file.stages[below].triggers, &mut resolved),
            Some(Based::Image(base)) => {
                if let Some(needs) = self.reading.triggers.get(&base.image) {
                    self.run(index, Some(base), needs, &mut resolved);
                }
            }
            None => {}
        }
        resolved.triggered.extend(self.faults.split_off(own));
        self.run(index, None, &file.stages[index].needs, &mut resolved);
        resolved
    }

    /// Resolves what instructions of a stage ask for: its own, or the triggers of an image.
    fn run(&mut self, stage: usize, of: Option<Base>, needs: &'a Needs, resolved: &mut Resolved<'a>) {
        for source in &needs.sources {
            self.source(&Asked { stage, source, by: of.as_ref(), taken: true }, &mut Vec::new(), resolved);
        }
        resolved.needs.push((of, needs));
    }

    fn from(&mut self, index: usize, resolved: &mut Resolved<'a>) -> Option<Based> {
        let stage = &self.file.stages[index];
        let word = &stage.from;
        let image = self.value(word)?;
        let platform = stage
            .platform
            .as_ref()
            .map(|word| checks::platform(word, self.file.escape, &self.values, self.reading.builder, &self.budget));
        let platform = match platform {
            // Whatever else is wrong with it is reported for all stages (see `checks::platforms`).
            Some(Err(fault)) if self.budget.is_spent() => {
                self.faults.push(fault);
                return None;
            }
            platform => platform.and_then(Result::ok),
        };
        // FROM sees only earlier stages, and only lower-case names. Of two stages with one name it takes the later one.
        if let Some(earlier) = self.names.before(&image, index) {
            resolved.stages.push(StageUse { stage: earlier, text: word.text.clone(), span: word.span, by: None });
            return Some(Based::Stage(earlier));
        }
        if image == SCRATCH {
            resolved.scratch = true;
            return None;
        }
        let reference = self.image(&image, word.span)?;
        let globals = self.reading.globals(self.file);
        let decider = |word| globals.decider(word, self.reading.builder, &self.platform, &self.budget);
        let Decider { builder: for_builder, target: for_target } =
            stage.platform.as_ref().map_or(Decider::TARGET, decider);
        if self.budget.is_spent() {
            self.fault(DockerfileFaultKind::Variable, word.span, format!("`{}`: {TOO_MUCH}", word.text));
            return None;
        }
        let found = platform.map_or_else(|| self.platform.clone(), |platform| platform.normalised());
        resolved.begins = stage.platform.as_ref().map(|word| StagePlatform {
            span: word.span,
            wanted: self.platform.clone(),
            found: found.clone(),
            for_builder,
            for_target,
        });
        resolved.images.push(ImageUse {
            image,
            kind: UseKind::From,
            span: word.span,
            stage: index,
            platforms: vec![found],
            for_builder,
            for_target,
            trigger: None,
        });
        Some(Based::Image(Base { image: reference.familiar(), from: word.span }))
    }

    /// Replaces the variables in a word of `FROM`.
    fn value(&mut self, word: &Word) -> Option<String> {
        if self.budget.is_spent() {
            // That is reported where it was.
            return None;
        }
        let expanded = match self.expanded(&word.text) {
            Ok(expanded) => expanded,
            Err(what) => {
                self.fault(DockerfileFaultKind::Variable, word.span, format!("`{}`: {what}", word.text));
                return None;
            }
        };
        // An unset variable is empty, which may be intended (`debian:trixie$SUFFIX`), unless the result is not an
        // image.
        let unsound =
            expanded.text.is_empty() || (expanded.text != SCRATCH && expanded.text.parse::<ImageRef>().is_err());
        let Some(unset) = expanded.unset.first().filter(|_| unsound) else {
            if expanded.text.is_empty() {
                self.fault(DockerfileFaultKind::Variable, word.span, format!("`{}` is empty", word.text));
                return None;
            }
            return Some(expanded.text);
        };
        let help = if self.global_args.contains(unset.as_str()) {
            format!("give it a default (`ARG {unset}=…`) or a value in the layer's `build_args`")
        } else if self.stage_args.contains(unset.as_str()) {
            format!("FROM sees only what is declared before the first FROM: move `ARG {unset}` there")
        } else {
            format!("declare it before the first FROM: `ARG {unset}=…`")
        };
        self.faults.push(DockerfileFault {
            kind: DockerfileFaultKind::Variable,
            message: format!("`{unset}` has no value, so `{}` names no image", word.text),
            span: Some(word.span),
            help: Some(help),
        });
        None
    }

    fn image(&mut self, image: &str, span: Span) -> Option<ImageRef> {
        if let Ok(reference) = image.parse::<ImageRef>() {
            return Some(reference);
        }
        let stage = self.names.last(&image.to_lowercase()).is_some();
        let help = if stage {
            format!("stages are named in lower case here: `{}`", image.to_lowercase())
        } else if image.contains('@') {
            "write `[registry/]name[:tag]@sha256:…`, with the digest's 64 hexadecimal digits".to_owned()
        } else {
            "write `[registry/]name[:tag][@digest]`, in lower case".to_owned()
        };
        self.faults.push(DockerfileFault {
            kind: DockerfileFaultKind::Image,
            message: format!("`{image}` is not an image reference"),
            span: Some(span),
            help: Some(help),
        });
        None
    }

    /// Resolves `COPY --from=` and `RUN --mount=from=`: a stage by name in any case, for COPY also by number, else an
    /// image. `path` lists the images whose triggers lead here.
    fn source(&mut self, asked: &Asked<'_>, path: &mut Vec<String>, resolved: &mut Resolved<'a>) {
        let text = &asked.word().text;
        if asked.kind() == UseKind::Copy && !checks::is_plain(text, self.file.escape) {
            let help = format!("name it with a stage: `FROM {text} AS name`, then `from=name`");
            let message = format!("BuildKit replaces no variables in `{text}`");
            return self.source_fault(asked, DockerfileFaultKind::Variable, message, help);
        }
        let number = text.parse::<usize>().ok().filter(|_| asked.kind() == UseKind::Copy);
        let stage = number.or_else(|| self.names.last(&text.to_lowercase()));
        match stage {
            Some(stage) if stage < self.file.stages.len() => match asked.taken {
                true => {
                    let by = asked.by.map(|base| base.image.clone());
                    resolved.stages.push(StageUse { stage, text: text.clone(), span: asked.span(), by });
                }
                false => resolved.looked_at.push(stage),
            },
            Some(stage) => {
                let help = format!("stages are counted from 0; the last is {}", self.file.stages.len() - 1);
                let message = format!("there is no stage {stage}");
                self.source_fault(asked, DockerfileFaultKind::UnknownStage, message, help);
            }
            None if text == SCRATCH => {}
            None => self.image_source(asked, path, resolved),
        }
    }

    fn image_source(&mut self, asked: &Asked<'_>, path: &mut Vec<String>, resolved: &mut Resolved<'a>) {
        let text = &asked.word().text;
        let Some(reference) = self.image(text, asked.span()) else { return };
        let familiar = reference.familiar();
        if asked.taken {
            resolved.images.push(ImageUse {
                image: text.clone(),
                kind: asked.kind(),
                span: asked.span(),
                stage: asked.stage,
                platforms: vec![self.platform.clone()],
                for_builder: Decider::TARGET.builder,
                for_target: Decider::TARGET.target,
                trigger: asked.trigger(),
            });
        } else {
            resolved.looked_up.insert(reference.context_name());
        }
        let Some(needs) = self.reading.triggers.get(&familiar) else { return };
        if path.contains(&familiar) {
            resolved.triggered.push(endless(asked, path));
            return;
        }
        // Once is enough: what it asks for is then known, and images whose triggers name each other twice would be gone
        // through twice as often at each step.
        if !resolved.triggers_read.insert(familiar.clone()) {
            return;
        }
        #[cfg(test)]
        done::add(needs.sources.len());
        path.push(familiar.clone());
        let base = Base { image: familiar, from: asked.span() };
        for source in &needs.sources {
            self.source(&Asked { stage: asked.stage, source, by: Some(&base), taken: false }, path, resolved);
        }
        path.pop();
    }

    fn source_fault(&mut self, asked: &Asked<'_>, kind: DockerfileFaultKind, message: String, help: String) {
        let message = said_of(asked.by.map(|base| base.image.as_str()), message);
        self.faults.push(DockerfileFault { kind, message, span: Some(asked.span()), help: Some(help) });
    }

    /// Reports stages that take files from a stage that is not above them.
    pub fn check_order(&mut self, resolved: &[Resolved<'_>], reached: &BTreeSet<usize>) {
        for index in reached {
            for StageUse { stage, text, span, by } in resolved[*index].stages.iter().filter(|used| used.stage >= *index)
            {
                let (message, help) = if stage == index {
                    (format!("the stage takes from itself: `{text}`"), "name an earlier stage".to_owned())
                } else {
                    (format!("stage `{text}` begins further down"), "move that stage above this one".to_owned())
                };
                let message = said_of(by.as_deref(), message);
                self.faults.push(DockerfileFault {
                    kind: DockerfileFaultKind::UnknownStage,
                    message,
                    span: Some(*span),
                    help: Some(help),
                });
            }
        }
    }

    /// Needed stages with the name of an image that is used (`FROM debian AS debian`).
    pub fn shadows(&self, resolved: &[Resolved<'_>], reached: &BTreeSet<usize>) -> BTreeMap<String, Span> {
        let images: BTreeSet<String> = reached
            .iter()
            .flat_map(|index| &resolved[*index].images)
            .filter_map(|image| Some(image.image.parse::<ImageRef>().ok()?.context_name()))
            .collect();
        let names = reached.iter().filter_map(|index| self.file.stages[*index].name.as_ref());
        names.filter(|name| images.contains(&name.text)).map(|name| (name.text.clone(), name.span)).collect()
    }
}

/// A fault of this file, or of a trigger that an image brings here.
fn said_of(trigger_of: Option<&str>, message: String) -> String {
    match trigger_of {
        Some(image) => format!("a trigger (`ONBUILD`) of `{image}` cannot run here: {message}"),
        None => message,
    }
}

/// What a stage is based on.
enum Based {
    /// An earlier stage.
    Stage(usize),
    /// An image.
    Image(Base),
}

/// The fault of triggers that lead to themselves: BuildKit reads the triggers of each image that a trigger copies from,
/// for ever.
fn endless(asked: &Asked<'_>, path: &[String]) -> DockerfileFault {
    let image = path.iter().chain(path.first()).map(|image| format!("`{image}`")).collect::<Vec<_>>().join(" → ");
    DockerfileFault {
        kind: DockerfileFaultKind::Trigger,
        message: format!("a trigger (`ONBUILD`) leads back to itself, and BuildKit never ends: {image}"),
        span: Some(asked.span()),
        help: Some("let the trigger copy from a layer that has none".to_owned()),
    }
}
