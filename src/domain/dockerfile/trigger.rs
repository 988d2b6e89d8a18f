//! Reads what `ONBUILD` keeps for whoever builds upon an image. BuildKit reads it again there, as a file of its own. Not
//! responsible for: where triggers are run.

use super::heredoc::Heredoc;
use super::instruction::{Cut, Instruction};
use super::lines::Reader;
use super::steps::{Copy, Run, Step, StepKind, Written};
use super::word::Word;
use super::{go, heredoc, mounts, words};
use crate::domain::base::Span;

/// The instruction of a trigger. Its words are not in the file that is read: they all get `place`. The error says what
/// is wrong.
pub(super) fn read(text: &str, place: Span) -> Result<Step, String> {
    let mut reader = Reader::new(text);
    let line = reader.instruction().map_err(|fault| fault.message)?.ok_or("there is none")?;
    let node = words::cut(&line.text, 0, reader.escape).map_err(|bad| bad.message)?;
    let mut documents: Vec<(Heredoc, &str, usize)> = Vec::new();
    if node.may_hold_documents() && text.contains("<<") {
        for announced in heredoc::all(&go::text(&line.text))? {
            let body = reader.document(&announced).map_err(|fault| fault.message)?;
            let (at, body) = body.ok_or_else(|| format!("the here-document `{}` does not end", announced.name))?;
            documents.push((announced, body, at));
        }
    }
    if reader.instruction().map_err(|fault| fault.message)?.is_some() {
        return Err("there is a second one".to_owned());
    }
    match (Cut { line: &line, node: &node, documents: &documents, replaced: &[] }).read() {
        Ok(Instruction::Step(step)) => Ok(moved(*step, place)),
        Ok(Instruction::From(_)) => Err("it begins a stage".to_owned()),
        Err(bad) => Err(bad.message),
    }
}

fn moved(step: Step, place: Span) -> Step {
    let word = |word: Word| Word { span: place, ..word };
    let all = |words: Vec<Word>| words.into_iter().map(word).collect();
    let kind = match step.kind {
        StepKind::Arg(mut args) => {
            args.iter_mut().for_each(|arg| arg.span = place);
            StepKind::Arg(args)
        }
        StepKind::Env(pairs) => {
            StepKind::Env(pairs.into_iter().map(|(name, value)| (word(name), word(value))).collect())
        }
        StepKind::Copy(copy) => StepKind::Copy(Box::new(Copy {
            add: copy.add,
            from: copy.from.map(word),
            sources: all(copy.sources),
            target: word(copy.target),
            documents: all(copy.documents),
            chmod: copy.chmod.map(word),
            checksum: copy.checksum.map(word),
            others: all(copy.others),
        })),
        StepKind::Run(run) => StepKind::Run(Run {
            mounts: run.mounts.into_iter().map(|flag| mounts::MountFlag::moved(flag, place)).collect(),
            device: run.device.map(word),
            privilege: run.privilege.map(word),
        }),
        StepKind::Expose(words) => StepKind::Expose(all(words)),
        StepKind::Volume(words) => StepKind::Volume(all(words)),
        StepKind::StopSignal(signal) => StepKind::StopSignal(word(signal)),
        StepKind::WorkDir(path) => StepKind::WorkDir(word(path)),
        StepKind::Words(words) => StepKind::Words(all(words)),
        StepKind::OnBuild(trigger) => StepKind::OnBuild(word(trigger)),
        StepKind::Other => StepKind::Other,
    };
    // A trigger is parsed as a file of its own, in which no comment stands.
    let written = Written { span: place, comments: Vec::new(), ..step.written };
    Step { kind, span: place, written, unfit: step.unfit.map(word) }
}
