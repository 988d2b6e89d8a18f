//! Finds which images the stages that a target needs really use, on all of its platforms together. Stages that the
//! target does not need are not built, as in BuildKit. Not responsible for: what one stage uses (see `resolver`).

use std::collections::{BTreeMap, BTreeSet};

use super::checks::{self, Given, Images, Taken};
use super::lint::{self, Rules};
use super::lint_from::{self, Seen};
use super::parse::parse;
use super::resolver::{Base, Reading, Resolved, Resolver, Triggers};
use super::steps::{Dockerfile, Needs, SCRATCH, Stage};
use super::word::{MountId, Word};
use crate::domain::base::{Platform, Platforms, Span};
use crate::domain::model::{DockerfileFacts, DockerfileFault, MountPlace, StageName, StagePlatform, Trigger};

/// [`parse`] followed by [`references`], for one platform and a builder of that platform, where no image has triggers.
pub fn read(
    text: &str,
    target: Option<&str>,
    build_args: &BTreeMap<String, String>,
    platform: &Platform,
) -> Result<DockerfileFacts, Vec<DockerfileFault>> {
    let (platforms, triggers) = (platform.clone().into(), Triggers::new());
    let reading = alone(target, build_args, &platforms, &triggers);
    references(&parse(text)?, &reading)
}

fn alone<'a>(
    target: Option<&'a str>,
    build_args: &'a BTreeMap<String, String>,
    platforms: &'a Platforms,
    triggers: &'a Triggers,
) -> Reading<'a> {
    Reading { target, build_args, platforms, builder: platforms.first(), frontend: false, triggers }
}

/// As [`read`], where each image is known to set nothing but `PATH`: what depends on an image's variables is then
/// certain. Tests compare this with BuildKit, which always knows.
pub fn read_on_bare_images(
    text: &str,
    target: Option<&str>,
    build_args: &BTreeMap<String, String>,
    platform: &Platform,
    builder: &Platform,
) -> Result<DockerfileFacts, Vec<DockerfileFault>> {
    let (platforms, triggers) = (platform.clone().into(), Triggers::new());
    let reading = Reading { builder, ..alone(target, build_args, &platforms, &triggers) };
    on_platform(&parse(text)?, &reading, platform, Images::Bare)
}

/// The triggers that an image of this target hands on: those of the target's own stage, not of the stages below it.
pub fn triggers<'a>(file: &'a Dockerfile, target: Option<&str>) -> Option<&'a Needs> {
    let stage = match target.map(str::to_lowercase) {
        None => file.stages.last(),
        Some(wanted) => file.stages.iter().rfind(|stage| stage.name.as_ref().is_some_and(|name| name.text == wanted)),
    };
    stage.map(|stage| &stage.triggers)
}

/// What the `ONBUILD` lines in an image's config ask for. Lines that cannot be read are BuildKit's to report.
pub fn triggers_in(lines: &[String]) -> Needs {
    let mut all = Needs::default();
    for line in lines {
        let Ok(file) = parse(&format!("FROM {SCRATCH}\n{line}\n")) else { continue };
        for Stage { needs, .. } in file.stages {
            all.sources.extend(needs.sources);
            all.args.extend(needs.args);
            all.secrets.extend(needs.secrets);
            all.ssh.extend(needs.ssh);
        }
    }
    all
}

/// The images and ids that a build of the target uses, on all of its platforms together. All faults are reported
/// together: an unknown target, sources that are neither an image nor an earlier stage, variables without a value, and
/// whatever else BuildKit refuses before it builds.
pub fn references(file: &Dockerfile, reading: &Reading<'_>) -> Result<DockerfileFacts, Vec<DockerfileFault>> {
    let mut facts: Option<DockerfileFacts> = None;
    let mut faults: Vec<DockerfileFault> = Vec::new();
    for platform in reading.platforms.iter() {
        match on_platform(file, reading, platform, Images::Unknown) {
            Ok(found) => match &mut facts {
                Some(facts) => facts.merge(found),
                None => facts = Some(found),
            },
            Err(found) => found.into_iter().for_each(|fault| {
                if !faults.contains(&fault) {
                    faults.push(fault);
                }
            }),
        }
    }
    faults.sort_by_key(|fault| fault.span);
    facts.filter(|_| faults.is_empty()).ok_or(faults)
}

fn on_platform(
    file: &Dockerfile,
    reading: &Reading<'_>,
    platform: &Platform,
    images: Images,
) -> Result<DockerfileFacts, Vec<DockerfileFault>> {
    let mut resolver = Resolver::new(file, reading, platform);
    let resolved: Vec<Resolved<'_>> = (0..file.stages.len()).map(|index| resolver.stage(index)).collect();
    let target = resolver.target(reading.target);
    let reached = target.map(|target| reach(&resolved, target)).unwrap_or_default();
    resolver.check_order(&resolved, &reached);
    resolver.faults.extend(
        resolved
            .iter()
            .enumerate()
            .filter(|(at, _)| reached.contains(at))
            .flat_map(|(_, stage)| stage.triggered.clone()),
    );
    let taken: Vec<Vec<_>> =
        resolved.iter().map(|one| one.stages.iter().map(|used| (used.stage, used.span)).collect()).collect();
    resolver.faults.extend(checks::circles(file, &taken, &reached));
    resolver.faults.extend(checks::platforms(file, &resolver.values, reading.builder));
    let rules = rules(file, reading, &mut resolver.faults);
    let given = Given {
        globals: &resolver.values,
        build_args: reading.build_args,
        images,
        rules: &rules,
        frontend: reading.frontend,
    };
    let asked = checks::go_through(file, &taken, &reached, &given);
    resolver.faults.extend(asked.faults);
    let mut found = lint::as_written(file, &rules);
    let seen = Seen { values: &resolver.values, defaults: resolver.defaults.take(), builder: reading.builder };
    lint_from::check(file, &rules, &seen, &mut found);
    found.0.extend(asked.lint.0);
    // BuildKit looks at the first platform only.
    let fatal = rules.error && platform == reading.platforms.first();
    let (sure, unsure): (Vec<_>, Vec<_>) = found.0.iter().filter(|_| fatal).partition(|finding| finding.sure);
    resolver.faults.extend(sure.into_iter().map(lint::fault));
    if !resolver.faults.is_empty() {
        resolver.faults.sort_by_key(|fault| fault.span);
        resolver.faults.dedup();
        return Err(resolver.faults);
    }
    let mut facts = DockerfileFacts {
        syntax: file.syntax.as_ref().map(|word| (word.text.clone(), word.span)),
        begins: target.and_then(|target| begins(file, &resolved, &taken, target)).into_iter().collect(),
        stages: file.stages.iter().map(stage_name).collect(),
        shadows: resolver.shadows(&resolved, &reached),
        doubts: unsure.into_iter().map(lint::fault).collect(),
        must_exist: if fatal { asked.copied } else { Vec::new() },
        declared_args: file.args.iter().map(|arg| arg.name.clone()).collect(),
        lint: found.0,
        ..DockerfileFacts::default()
    };
    collect(&mut facts, resolved, &reached);
    for (words, ids) in [(asked.secrets, &mut facts.secret_ids), (asked.ssh, &mut facts.ssh_ids)] {
        words.iter().for_each(|id| enter(ids, id, None));
    }
    Ok(facts)
}

/// What the image of a stage begins with: FROM takes the platform of an earlier stage as it is, whatever it asks for.
fn begins(file: &Dockerfile, resolved: &[Resolved<'_>], taken: &Taken, target: usize) -> Option<StagePlatform> {
    let below = |index: &usize| checks::base_of(file, *index, &taken[*index]);
    let first = std::iter::successors(Some(target), below).last()?;
    resolved[first].begins.clone()
}

/// Adds what the stages use, needed ones and others.
fn collect(facts: &mut DockerfileFacts, resolved: Vec<Resolved<'_>>, reached: &BTreeSet<usize>) {
    for (index, resolved) in resolved.into_iter().enumerate() {
        if !reached.contains(&index) {
            facts.unreached.extend(resolved.images);
            continue;
        }
        facts.uses.extend(resolved.images);
        facts.from_scratch |= resolved.scratch;
        facts.looked_up.extend(resolved.looked_up);
        for (of, needs) in &resolved.needs {
            facts.declared_args.extend(needs.args.iter().map(|arg| arg.name.clone()));
            // Those of this file are known by what variables make of them.
            for (words, ids) in [(&needs.secrets, &mut facts.secret_ids), (&needs.ssh, &mut facts.ssh_ids)] {
                words.iter().filter(|_| of.is_some()).for_each(|id| enter(ids, id, of.as_ref()));
            }
        }
    }
}

/// The build argument that takes the place of `# check=`.
const CHECK_ARG: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// The rules of style that a build of this file is held to.
fn rules(file: &Dockerfile, reading: &Reading<'_>, faults: &mut Vec<DockerfileFault>) -> Rules {
    let given = reading.build_args.get(CHECK_ARG);
    match Rules::read(given.or(file.check.as_ref()).map_or("", String::as_str)) {
        Ok(rules) => rules,
        Err(option) => {
            let message = format!("the build argument `{CHECK_ARG}` has no option `{option}`");
            let place = file.stages.first().map_or(Span::new(0, 0), |stage| stage.from.span);
            faults.push(DockerfileFault::parse(place, message).help("write `skip=RULE,RULE` or `error=true`"));
            Rules::default()
        }
    }
}

/// Adds a mount's id, at its first place.
fn enter(ids: &mut BTreeMap<String, MountPlace>, id: &MountId, of: Option<&Base>) {
    let entry = ids.entry(id.word.text.clone()).or_insert_with(|| place(&id.word, of));
    entry.required |= id.required;
}

/// The place of a word in the Dockerfile, or in the triggers of an image on which a stage is based.
fn place(word: &Word, of: Option<&Base>) -> MountPlace {
    match of {
        None => MountPlace { span: word.span, trigger: None, required: false },
        Some(Base { image, from }) => {
            let trigger = Some(Trigger { image: image.clone(), span: word.span });
            MountPlace { span: *from, trigger, required: false }
        }
    }
}

fn stage_name(stage: &Stage) -> StageName {
    match &stage.name {
        Some(name) => StageName { name: Some(name.text.clone()), span: name.span },
        None => StageName { name: None, span: stage.from.span },
    }
}

/// The stages that `target` needs, including itself.
fn reach(resolved: &[Resolved<'_>], target: usize) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut waiting = vec![target];
    while let Some(index) = waiting.pop() {
        if reached.insert(index) {
            waiting.extend(resolved[index].stages.iter().map(|used| used.stage));
            waiting.extend(&resolved[index].looked_at);
        }
    }
    reached
}
