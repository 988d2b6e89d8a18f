//! Reads the text of a Dockerfile as BuildKit 0.32 reads it, and tells all that is wrong with it. Not responsible for:
//! variables, and which stages are built.

use super::heredoc::{self, Heredoc};
use super::instruction::{Cut, Instruction};
use super::lines::{Line, Reader};
use super::source_text::SourceText;
use super::steps::{Dockerfile, Stage, Step, StepKind, Written};
use super::words::{self, Bad};
use super::{directives, go, lint};
use crate::domain::base::Span;
use crate::domain::model::DockerfileFault;

/// Reads the text of a Dockerfile. A fault of one instruction does not hide those of others; after a fault that leaves
/// it open where the next instruction begins, nothing more is read.
pub fn parse(text: &str) -> Result<Dockerfile, Vec<DockerfileFault>> {
    parse_source(&text.into())
}

/// Reads a Dockerfile, some of whose bytes may not be UTF-8.
pub fn parse_source(source: &SourceText) -> Result<Dockerfile, Vec<DockerfileFault>> {
    let text = source.text.as_str();
    if source.is_utf16 {
        let mark = Span::new(0, char::REPLACEMENT_CHARACTER.len_utf8());
        let fault = DockerfileFault::parse(mark, "the Dockerfile is in UTF-16, and BuildKit reads UTF-8");
        return Err(vec![fault.help("save it as UTF-8")]);
    }
    let mut reader = Reader::new(text);
    let mut found = Found { syntax: directives::syntax(text), replaced: source.replaced(), ..Found::default() };
    match lint::options(text) {
        Ok(options) => found.check = options,
        Err(fault) => found.faults.push(fault),
    }
    loop {
        match reader.instruction() {
            Ok(None) => break,
            Ok(Some(line)) => {
                if let Err(fault) = found.instruction(&line, &mut reader) {
                    found.faults.push(fault);
                    break;
                }
            }
            Err(fault) => {
                found.faults.push(fault);
                break;
            }
        }
    }
    found.finish(reader.escape)
}

/// What was read so far.
#[derive(Default)]
struct Found<'a> {
    /// The characters that stand for bytes that are not UTF-8.
    replaced: &'a [usize],
    syntax: Option<super::word::Word>,
    args: Vec<super::steps::Arg>,
    arg_lines: Vec<Written>,
    gaps: Vec<Span>,
    check: Option<String>,
    stages: Vec<Stage>,
    faults: Vec<DockerfileFault>,
    /// Whether a fault hides that there may be a FROM.
    hidden: bool,
    /// Here-documents that BuildKit does not see, by the line that would end them, and why it does not.
    unseen: Vec<(String, String)>,
}

impl Found<'_> {
    /// Reads one instruction and its here-documents. An error: nothing can be read after it.
    fn instruction(&mut self, line: &Line, reader: &mut Reader<'_>) -> Result<(), DockerfileFault> {
        if line.gap {
            self.gaps.push(line.whole());
        }
        let node = match words::cut(&line.text, 0, reader.escape) {
            Ok(node) => node,
            Err(bad) => {
                self.bad(line, bad);
                return Ok(());
            }
        };
        let announced = match node.may_hold_documents() && line.text.windows(2).any(|two| two == b"<<") {
            true => heredoc::all(&go::text(&line.text)).map_err(|what| fault(line, here(line, "<<", what)))?,
            false => Vec::new(),
        };
        let mut documents: Vec<(Heredoc, &str, usize)> = Vec::new();
        for announced in announced {
            let Some((at, body)) = reader.document(&announced)? else {
                let what = format!("the here-document `{}` does not end", announced.name);
                let mut bad = here(line, "<<", what);
                bad.help = format!("end it with a line that says only `{}`", announced.name);
                return Err(fault(line, bad));
            };
            documents.push((announced, body, at));
        }
        if documents.is_empty() && node.may_hold_documents() {
            self.unseen.extend(heredoc::unseen(&go::text(&line.text)));
        }
        let cut = Cut { line, node: &node, documents: &documents, replaced: self.replaced };
        match cut.read() {
            Err(mut bad) => {
                if let Some((_, why)) = self.unseen.iter().find(|(name, _)| *name == node.command.text) {
                    bad.help = format!(
                        "BuildKit sees no here-document that this ends: in its line, {why}; write that part into a RUN of its own"
                    );
                }
                self.bad(line, bad);
            }
            Ok(Instruction::From(stage)) => self.stages.push(*stage),
            Ok(Instruction::Step(step)) => {
                if let (Some(stage), Some(trigger)) = (self.stages.last_mut(), cut.triggered()) {
                    stage.triggers.add(&trigger);
                }
                self.step(*step);
            }
        }
        Ok(())
    }

    fn bad(&mut self, line: &Line, bad: Bad) {
        self.hidden |= self.stages.is_empty();
        self.faults.push(fault(line, bad));
    }

    fn step(&mut self, step: Step) {
        let kind = step.kind.clone();
        match (self.stages.last_mut(), kind) {
            (Some(stage), kind) => {
                stage.needs.add(&kind);
                stage.steps.push(Step { kind, ..step });
            }
            (None, StepKind::Arg(args)) => {
                self.args.extend(args);
                self.arg_lines.push(step.written);
            }
            (None, _) if self.hidden => {}
            (None, _) => {
                self.hidden = true;
                let help = "begin with `FROM image`; only `ARG` may stand before it";
                self.faults.push(DockerfileFault::parse(step.span, "an instruction before the first FROM").help(help));
            }
        }
    }

    fn finish(mut self, escape: char) -> Result<Dockerfile, Vec<DockerfileFault>> {
        if self.stages.is_empty() && self.faults.is_empty() {
            let fault = DockerfileFault::parse(Span::new(0, 0), "the Dockerfile has no FROM");
            self.faults.push(fault.help("begin with `FROM image`"));
        }
        if self.faults.is_empty() {
            let Self { syntax, args, arg_lines, gaps, check, stages, .. } = self;
            return Ok(Dockerfile { syntax, escape, args, arg_lines, gaps, check, stages });
        }
        self.faults.sort_by_key(|fault| fault.span);
        Err(self.faults)
    }
}

fn fault(line: &Line, bad: Bad) -> DockerfileFault {
    DockerfileFault::parse(line.span(bad.start, bad.end), bad.message).help(bad.help)
}

/// A fault of what begins with `mark` and ends at the next blank.
fn here(line: &Line, mark: &str, message: String) -> Bad {
    let text = &line.text;
    let start = text.windows(mark.len()).position(|window| window == mark.as_bytes()).unwrap_or(0);
    let end = text[start..].iter().position(|b| go::separates(*b)).map_or(text.len(), |at| start + at);
    Bad { message, help: "correct what is marked".to_owned(), start, end }
}
