//! Finds which images the stages that a target needs really use. Stages that the target does not need are not built, as
//! in BuildKit.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::expand;
use super::parse::{Arg, Dockerfile, Source, Stage, Word, parse};
use crate::domain::base::{Platform, Span, nearest};
use crate::domain::model::{
    DockerfileFacts, DockerfileFault, DockerfileFaultKind, ImageRef, ImageUse, StageName, UseKind,
};

/// BuildKit's name for an empty image.
const SCRATCH: &str = "scratch";

/// [`parse`] followed by [`references`].
pub fn read(
    text: &str,
    target: Option<&str>,
    build_args: &BTreeMap<String, String>,
    platform: &Platform,
) -> Result<DockerfileFacts, Vec<DockerfileFault>> {
    references(&parse(text).map_err(|fault| vec![fault])?, target, build_args, platform)
}

/// The images and ids that a build of `target` (the last stage if `None`) uses. `platform` is that of the builder and
/// of the target. All faults are reported together: an unknown target, sources that are neither an image nor an earlier
/// stage, variables without a value.
pub fn references(
    file: &Dockerfile,
    target: Option<&str>,
    build_args: &BTreeMap<String, String>,
    platform: &Platform,
) -> Result<DockerfileFacts, Vec<DockerfileFault>> {
    let mut resolver = Resolver::new(file, target, build_args, platform);
    let resolved: Vec<Resolved> = (0..file.stages.len()).map(|index| resolver.stage(index)).collect();
    let target = resolver.target(target);
    let reached = target.map(|target| reach(&resolved, target)).unwrap_or_default();
    resolver.check_order(&resolved, &reached);
    resolver.check_shadows(&resolved, &reached);
    if !resolver.faults.is_empty() {
        resolver.faults.sort_by_key(|fault| fault.span);
        return Err(resolver.faults);
    }
    let mut facts = DockerfileFacts {
        syntax: file.syntax.as_ref().map(|word| (word.text.clone(), word.span)),
        stages: file.stages.iter().map(stage_name).collect(),
        declared_args: file.args.iter().map(|arg| arg.name.clone()).collect(),
        ..DockerfileFacts::default()
    };
    for (index, stage) in file.stages.iter().enumerate() {
        if !reached.contains(&index) {
            facts.unreached.extend(resolved[index].images.iter().cloned());
            continue;
        }
        facts.declared_args.extend(stage.args.iter().map(|arg| arg.name.clone()));
        facts.uses.extend(resolved[index].images.iter().cloned());
        facts.from_scratch |= resolved[index].scratch;
        for word in &stage.secrets {
            facts.secret_ids.entry(word.text.clone()).or_insert(word.span);
        }
        for word in &stage.ssh {
            facts.ssh_ids.entry(word.text.clone()).or_insert(word.span);
        }
    }
    Ok(facts)
}

fn stage_name(stage: &Stage) -> StageName {
    match &stage.name {
        Some(name) => StageName { name: Some(name.text.clone()), span: name.span },
        None => StageName { name: None, span: stage.from.span },
    }
}

/// What a stage names, sorted by kind.
#[derive(Default)]
struct Resolved {
    /// Images that are not stages of this file.
    images: Vec<ImageUse>,
    /// Stages of this file, with the place that names them.
    stages: Vec<(usize, Word)>,
    /// Whether it begins with `FROM scratch`.
    scratch: bool,
}

/// The stages that `target` needs, including itself.
fn reach(resolved: &[Resolved], target: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut waiting = vec![target];
    while let Some(index) = waiting.pop() {
        if reached.insert(index) {
            waiting.extend(resolved[index].stages.iter().map(|(stage, _)| *stage));
        }
    }
    reached
}

struct Resolver<'a> {
    file: &'a Dockerfile,
    values: BTreeMap<String, String>,
    /// The last stage of each name, which `COPY --from` and the target mean.
    by_name: HashMap<&'a str, usize>,
    faults: Vec<DockerfileFault>,
}

impl<'a> Resolver<'a> {
    fn new(
        file: &'a Dockerfile,
        target: Option<&str>,
        build_args: &BTreeMap<String, String>,
        platform: &Platform,
    ) -> Self {
        let by_name = file
            .stages
            .iter()
            .enumerate()
            .filter_map(|(index, stage)| Some((stage.name.as_ref()?.text.as_str(), index)))
            .collect();
        let last = file.stages.last().and_then(|stage| stage.name.as_ref()).map(|name| name.text.as_str());
        let stage = target.or(last).unwrap_or("default");
        let mut resolver = Self { file, values: platform_values(platform, stage), by_name, faults: Vec::new() };
        for (name, value) in &mut resolver.values {
            if let Some(given) = build_args.get(name) {
                value.clone_from(given);
            }
        }
        for arg in &file.args {
            resolver.declare(arg, build_args);
        }
        resolver
    }

    fn declare(&mut self, arg: &Arg, build_args: &BTreeMap<String, String>) {
        let value = match (build_args.get(&arg.name), &arg.default) {
            (Some(given), _) => Ok(given.clone()),
            (None, Some(default)) => expand::expand(default, self.file.escape, &self.values).map(|e| e.text),
            (None, None) => return,
        };
        match value {
            Ok(value) => {
                self.values.insert(arg.name.clone(), value);
            }
            Err(what) => self.fault(DockerfileFaultKind::Variable, arg.span, format!("`ARG {}`: {what}", arg.name)),
        }
    }

    fn fault(&mut self, kind: DockerfileFaultKind, span: Span, message: String) {
        let help = Some("correct what is marked: variables are `$NAME`, `${NAME}` or `${NAME:-default}`".to_owned());
        self.faults.push(DockerfileFault { kind, message, span: Some(span), help });
    }

    fn target(&mut self, target: Option<&str>) -> Option<usize> {
        let Some(wanted) = target else { return self.file.stages.len().checked_sub(1) };
        let found = self.by_name.get(wanted.to_lowercase().as_str()).copied();
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

    fn stage(&mut self, index: usize) -> Resolved {
        let stage = &self.file.stages[index];
        let mut resolved = Resolved::default();
        self.from(index, stage, &mut resolved);
        for source in &stage.sources {
            let (word, kind) = match source {
                Source::Copy(word) => (word, UseKind::Copy),
                Source::Mount(word) => (word, UseKind::Mount),
            };
            self.source(index, word, kind, &mut resolved);
        }
        resolved
    }

    fn from(&mut self, index: usize, stage: &Stage, resolved: &mut Resolved) {
        let word = &stage.from;
        let Some(image) = self.value(word) else { return };
        let platform = stage.platform.as_ref().and_then(|platform| self.value(platform));
        // FROM sees only earlier stages, and only lower-case names. Of two stages with one name it takes the later one.
        let earlier = self.file.stages[..index].iter().rposition(|s| s.name.as_ref().is_some_and(|n| n.text == image));
        if let Some(earlier) = earlier {
            resolved.stages.push((earlier, word.clone()));
        } else if image == SCRATCH {
            resolved.scratch = true;
        } else if self.is_image(&image, word) {
            let kind = UseKind::From;
            resolved.images.push(ImageUse {
                image,
                kind,
                span: word.span,
                stage: index,
                platform: platform.map(Platform::from),
            });
        }
    }

    /// Replaces the variables in a word of `FROM`.
    fn value(&mut self, word: &Word) -> Option<String> {
        let expanded = match expand::expand(&word.text, self.file.escape, &self.values) {
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
        let declared = self.file.args.iter().any(|arg| arg.name == *unset);
        let help = if declared {
            format!("give it a default (`ARG {unset}=…`) or a value in the layer's `build_args`")
        } else if self.file.stages.iter().any(|stage| stage.args.iter().any(|arg| arg.name == *unset)) {
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

    fn is_image(&mut self, image: &str, word: &Word) -> bool {
        if image.parse::<ImageRef>().is_ok() {
            return true;
        }
        let stage = self.by_name.contains_key(image.to_lowercase().as_str());
        let help = if stage {
            format!("stages are named in lower case here: `{}`", image.to_lowercase())
        } else {
            "write `[registry/]name[:tag][@digest]`, in lower case".to_owned()
        };
        self.faults.push(DockerfileFault {
            kind: DockerfileFaultKind::Image,
            message: format!("`{image}` is not an image reference"),
            span: Some(word.span),
            help: Some(help),
        });
        false
    }

    /// Resolves `COPY --from=` and `RUN --mount=from=`: a stage by name in any case, for COPY also by number, else an
    /// image.
    fn source(&mut self, index: usize, word: &Word, kind: UseKind, resolved: &mut Resolved) {
        let text = &word.text;
        if text.contains('$') {
            self.faults.push(DockerfileFault {
                kind: DockerfileFaultKind::Variable,
                message: format!("BuildKit replaces no variables in `{text}`"),
                span: Some(word.span),
                help: Some(format!("name it with a stage: `FROM {text} AS name`, then `from=name`")),
            });
            return;
        }
        let number = text.parse::<usize>().ok().filter(|_| kind == UseKind::Copy);
        let stage = number.or_else(|| self.by_name.get(text.to_lowercase().as_str()).copied());
        match stage {
            Some(stage) if stage < self.file.stages.len() => resolved.stages.push((stage, word.clone())),
            Some(stage) => {
                let last = self.file.stages.len() - 1;
                self.faults.push(DockerfileFault {
                    kind: DockerfileFaultKind::UnknownStage,
                    message: format!("there is no stage {stage}"),
                    span: Some(word.span),
                    help: Some(format!("stages are counted from 0; the last is {last}")),
                });
            }
            None if text == SCRATCH => {}
            None => {
                if self.is_image(text, word) {
                    let image = ImageUse { image: text.clone(), kind, span: word.span, stage: index, platform: None };
                    resolved.images.push(image);
                }
            }
        }
    }

    /// Reports stages that take files from a stage that is not above them.
    fn check_order(&mut self, resolved: &[Resolved], reached: &BTreeSet<usize>) {
        for index in reached {
            for (stage, word) in resolved[*index].stages.iter().filter(|(stage, _)| stage >= index) {
                let (message, help) = if stage == index {
                    (format!("the stage takes from itself: `{}`", word.text), "name an earlier stage".to_owned())
                } else {
                    (format!("stage `{}` begins further down", word.text), "move that stage above this one".to_owned())
                };
                self.faults.push(DockerfileFault {
                    kind: DockerfileFaultKind::UnknownStage,
                    message,
                    span: Some(word.span),
                    help: Some(help),
                });
            }
        }
    }

    /// Reports stages with the name of an image that they use. Images are given to BuildKit as named contexts, and a
    /// context replaces a whole stage of the same name: `FROM debian AS debian` would build nothing.
    fn check_shadows(&mut self, resolved: &[Resolved], reached: &BTreeSet<usize>) {
        let images: BTreeSet<String> = reached
            .iter()
            .flat_map(|index| &resolved[*index].images)
            .filter_map(|image| Some(image.image.parse::<ImageRef>().ok()?.familiar()))
            .collect();
        for name in reached.iter().filter_map(|index| self.file.stages[*index].name.as_ref()) {
            if images.contains(&name.text) {
                self.faults.push(DockerfileFault {
                    kind: DockerfileFaultKind::Image,
                    message: format!("stage `{0}` has the name of the image `{0}`, which would replace it", name.text),
                    span: Some(name.span),
                    help: Some(format!("call the stage something else, such as `{}-stage`", name.text)),
                });
            }
        }
    }
}

/// The variables that BuildKit declares itself.
fn platform_values(platform: &Platform, stage: &str) -> BTreeMap<String, String> {
    let mut values = BTreeMap::from([("TARGETSTAGE".to_owned(), stage.to_owned())]);
    for side in ["BUILD", "TARGET"] {
        let named = [
            ("PLATFORM", platform.as_str()),
            ("OS", platform.os()),
            ("OSVERSION", ""),
            ("ARCH", platform.architecture()),
            ("VARIANT", platform.variant()),
        ];
        values.extend(named.map(|(name, value)| (format!("{side}{name}"), value.to_owned())));
    }
    values
}
