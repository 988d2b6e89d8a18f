//! Compares lian-build's reading of a Dockerfile with BuildKit's. Not responsible for: which Dockerfiles are read.

use std::collections::BTreeSet;

use lian_build::domain::dockerfile::read_on_bare_images;
use lian_build::domain::model::{DockerfileFacts, DockerfileFault, DockerfileFaultKind, ImageRef};

use super::oracle::{Answer, Question};

/// How often each end was met: a comparison of refusals alone would prove little.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub sound: usize,
    pub refused: usize,
    /// Where BuildKit's answer depends on more than the file, or lian-build asks for more than BuildKit.
    pub left_out: usize,
}

/// What differs, or nothing.
pub fn compare(question: &Question, answer: &Answer, tally: &mut Tally) -> Option<String> {
    let target = question.target.as_deref();
    let ours = {
        let (platform, builder) = (question.platform.into(), question.builder.into());
        read_on_bare_images(&question.text, target, &question.args, &platform, &builder)
    };
    match (ours, answer.phase.as_str()) {
        (Ok(facts), "") => {
            tally.sound += 1;
            facts_differ(&facts, answer)
        }
        // A panic is BuildKit's own fault.
        (_, "panic") => left_out(tally),
        (Err(faults), _) if answer.error.contains("lint violation") => {
            tally.refused += 1;
            let rules = |fault: &DockerfileFault| fault.message.split(':').next().unwrap_or_default().to_owned();
            lint_differs(faults.iter().map(rules).collect(), answer)
        }
        (Ok(_), phase) => Some(format!("sound for lian-build, and BuildKit ({phase}) says: {}", answer.error)),
        (Err(faults), "") if faults.iter().all(is_stricter) => left_out(tally),
        (Err(faults), "") => Some(format!("sound for BuildKit, and lian-build says: {}", told(&faults))),
        (Err(faults), phase) => {
            tally.refused += 1;
            let places_differ = phase == "parse" && !blames(question, &faults, answer);
            places_differ.then(|| {
                format!(
                    "BuildKit blames lines {:?} ({}), lian-build says: {}",
                    answer.lines,
                    answer.error,
                    told(&faults)
                )
            })
        }
    }
}

fn left_out(tally: &mut Tally) -> Option<String> {
    tally.left_out += 1;
    None
}

/// Faults of files that BuildKit itself would build.
fn is_stricter(fault: &DockerfileFault) -> bool {
    // A named context would replace the stage.
    fault.message.contains("which would replace it")
        // BuildKit refuses it only where it builds.
        || fault.message.contains("a privilege that no build is granted")
        // A bound of its own, for the sake of the stack.
        || fault.message.contains("nested too deeply")
        // BuildKit counts images behind the stages, so that a number too large may be one of those.
        || fault.message.starts_with("there is no stage ")
        // BuildKit hands these on to whoever makes the image or runs the step, and only they refuse them.
        || fault.message.contains("zero byte")
        || fault.message.contains("BuildKit cannot ask for")
}

fn told(faults: &[DockerfileFault]) -> String {
    faults.iter().map(|fault| fault.message.as_str()).collect::<Vec<_>>().join("; ")
}

/// Whether a fault lies where BuildKit's does. Of several faults BuildKit tells one.
fn blames(question: &Question, faults: &[DockerfileFault], answer: &Answer) -> bool {
    let line = |at: usize| question.text[..at].matches('\n').count() + 1;
    let parse = faults.iter().filter(|fault| fault.kind == DockerfileFaultKind::Parse);
    let mut ours = parse.filter_map(|fault| fault.span).map(|span| (line(span.start), line(span.end)));
    // BuildKit counts the lines of directives from 0.
    answer.lines.is_empty()
        || answer.error.contains("file with no instructions")
        || ours.any(|(start, end)| answer.lines.iter().any(|(from, to)| start <= to + 1 && *from <= end))
}

fn lint_differs(ours: BTreeSet<String>, answer: &Answer) -> Option<String> {
    let theirs: BTreeSet<String> = answer.lint.iter().cloned().collect();
    (ours != theirs).then(|| format!("rules of style {ours:?}, for BuildKit {theirs:?}"))
}

fn facts_differ(facts: &DockerfileFacts, answer: &Answer) -> Option<String> {
    let set = |words: &[String]| words.iter().cloned().collect::<BTreeSet<String>>();
    let stages: Vec<String> = facts.stages.iter().map(|stage| stage.name.clone().unwrap_or_default()).collect();
    let theirs: Vec<String> = answer.stages.iter().map(|stage| stage.name.clone()).collect();
    if stages != theirs {
        return Some(format!("stages {stages:?}, for BuildKit {theirs:?}"));
    }
    let image = |text: &str, platform: &str| {
        let image = text.parse::<ImageRef>().map_or_else(|_| format!("! {text}"), |image| image.to_string());
        format!("{image} for {platform}")
    };
    let used = facts.uses.iter().flat_map(|used| used.platforms.iter().map(move |platform| (used, platform)));
    let images: BTreeSet<String> = used.map(|(used, platform)| image(&used.image, platform.as_str())).collect();
    let theirs: BTreeSet<String> = answer
        .images
        .iter()
        .map(|told| told.split_once(' ').expect("with a platform"))
        .map(|(name, platform)| image(name, platform))
        .collect();
    // BuildKit uses an image that only a trigger leads to without having asked for it first.
    let triggers = answer.stages.iter().any(|stage| stage.triggers.is_some());
    if images != theirs && !(triggers && images.is_superset(&theirs)) {
        return Some(format!("images {images:?}, for BuildKit {theirs:?}"));
    }
    let ours = facts.secret_ids.keys().cloned().collect();
    if set(&answer.secrets) != ours {
        return Some(format!("secrets {ours:?}, for BuildKit {:?}", answer.secrets));
    }
    let ours = facts.ssh_ids.keys().cloned().collect();
    if set(&answer.ssh) != ours {
        return Some(format!("ssh {ours:?}, for BuildKit {:?}", answer.ssh));
    }
    let ours = |id: &String| {
        [&facts.secret_ids, &facts.ssh_ids].into_iter().any(|ids| ids.get(id).is_some_and(|p| p.required))
    };
    if let Some(id) = answer.required.iter().find(|id| !ours(id)) {
        return Some(format!("`{id}` is required for BuildKit only"));
    }
    let syntax = facts.syntax.as_ref().map(|(text, _)| text.as_str()).unwrap_or_default();
    if syntax != answer.syntax {
        return Some(format!("syntax {syntax:?}, for BuildKit {:?}", answer.syntax));
    }
    let lint = facts.lint.iter().map(|finding| finding.rule.to_owned()).collect();
    if let Some(what) = lint_differs(lint, answer) {
        return Some(what);
    }
    let missing: Vec<_> = answer.args.iter().filter(|arg| !facts.declared_args.contains(*arg)).collect();
    (!missing.is_empty()).then(|| format!("arguments {missing:?} are declared for BuildKit only"))
}
