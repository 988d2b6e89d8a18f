//! Parses a Dockerfile into the parts that matter to a catalog: stages, sources, arguments, mounts. Of other
//! instructions only the names are checked; BuildKit reads them.

use parse_dockerfile::{Flag, Instruction};

use super::mounts::{self, Mount};
use super::{expand, heredoc};
use crate::domain::base::{Span, nearest};
use crate::domain::model::DockerfileFault;

/// A word of the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// As written, without line continuations.
    pub text: String,
    /// Its bytes in the file.
    pub span: Span,
}

/// One name of an `ARG`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg {
    /// The name.
    pub name: String,
    /// The default as written, with its variables and quotes.
    pub default: Option<String>,
    /// Bytes of the whole instruction's arguments.
    pub span: Span,
}

/// What a stage takes files from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `COPY --from=`.
    Copy(Word),
    /// `RUN --mount=from=`.
    Mount(Word),
}

/// What instructions ask for besides the context.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// The sources, in the order of the file.
    pub sources: Vec<Source>,
    /// `ARG`s.
    pub args: Vec<Arg>,
    /// Ids of secret mounts.
    pub secrets: Vec<Word>,
    /// Ids of ssh mounts.
    pub ssh: Vec<Word>,
}

/// One `FROM` and its instructions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The name after `AS`, in lower case.
    pub name: Option<Word>,
    /// The image or stage that it is based on, as written.
    pub from: Word,
    /// `--platform=`, as written.
    pub platform: Option<Word>,
    /// What its own instructions ask for.
    pub needs: Needs,
    /// What its `ONBUILD` lines ask for. They run in the stages that are based on this one.
    pub triggers: Needs,
}

/// A Dockerfile that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The image that `# syntax=` names.
    pub syntax: Option<Word>,
    /// The escape character: `\`, or the one that `# escape=` names.
    pub escape: char,
    /// `ARG`s before the first `FROM`.
    pub args: Vec<Arg>,
    /// The stages; at least one.
    pub stages: Vec<Stage>,
}

/// Reads the text of a Dockerfile. The parser stops at the first fault, as BuildKit's does.
pub fn parse(text: &str) -> Result<Dockerfile, DockerfileFault> {
    let bom = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let text = &text[bom..];
    let reader = Converter { bom, escape: heredoc::escape_char(text) };
    let masked = heredoc::mask(text).map_err(|fault| reader.moved(fault))?;
    let instructions = parse_dockerfile::parse_iter(&masked)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| reader.moved(parser_fault(text, &error)))?;
    let mut file = Dockerfile { syntax: reader.syntax(text), escape: reader.escape, args: vec![], stages: vec![] };
    for instruction in &instructions {
        match (instruction, file.stages.last_mut()) {
            (Instruction::From(from), _) => file.stages.push(reader.stage(from)?),
            (Instruction::Arg(arg), None) => file.args.extend(reader.args(arg)),
            (Instruction::Onbuild(trigger), Some(stage)) => reader.needs(&trigger.instruction, &mut stage.triggers),
            (instruction, Some(stage)) => reader.needs(instruction, &mut stage.needs),
            (_, None) => {}
        }
    }
    Ok(file)
}

struct Converter {
    /// How many bytes of byte-order mark precede the text that the parser saw.
    bom: usize,
    escape: char,
}

impl Converter {
    fn span(&self, range: &std::ops::Range<usize>) -> Span {
        Span::new(range.start + self.bom, range.end + self.bom)
    }

    fn moved(&self, mut fault: DockerfileFault) -> DockerfileFault {
        fault.span = fault.span.map(|span| self.span(&(span.start..span.end)));
        fault
    }

    fn value(&self, flag: &Flag<'_>) -> Option<Word> {
        let value = flag.value.as_ref()?;
        let text: String = value.value.chars().filter(|c| !matches!(c, '"' | '\'')).collect();
        (!text.is_empty()).then(|| Word { text, span: self.span(&value.span) })
    }

    fn syntax(&self, text: &str) -> Option<Word> {
        let mut start = self.bom;
        for line in text.split_inclusive('\n') {
            let (name, value) = line.trim_start().strip_prefix('#')?.split_once('=')?;
            let name = name.trim().to_ascii_lowercase();
            if name == "syntax" && !value.trim().is_empty() {
                let word = value.trim();
                let at = start + (word.as_ptr() as usize - line.as_ptr() as usize);
                return Some(Word { text: word.to_owned(), span: Span::new(at, at + word.len()) });
            }
            if name != "escape" && name != "check" {
                return None;
            }
            start += line.len();
        }
        None
    }

    fn stage(&self, from: &parse_dockerfile::FromInstruction<'_>) -> Result<Stage, DockerfileFault> {
        let name = match &from.as_ {
            Some((_, name)) => {
                let text = name.value.to_lowercase();
                let sound = text.starts_with(|c: char| c.is_ascii_lowercase())
                    && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c));
                if !sound {
                    return Err(DockerfileFault::parse(
                        self.span(&name.span),
                        format!("`{}` cannot name a stage", name.value),
                    )
                    .help("begin with a letter; then letters, digits, `-`, `_` and `.`"));
                }
                Some(Word { text, span: self.span(&name.span) })
            }
            None => None,
        };
        let platform = from.options.iter().find(|flag| flag.name.value == "platform");
        Ok(Stage {
            name,
            from: Word { text: from.image.value.clone().into_owned(), span: self.span(&from.image.span) },
            platform: platform.and_then(|flag| self.value(flag)),
            needs: Needs::default(),
            triggers: Needs::default(),
        })
    }

    /// Adds what an instruction of a stage asks for.
    fn needs(&self, instruction: &Instruction<'_>, needs: &mut Needs) {
        match instruction {
            Instruction::Arg(arg) => needs.args.extend(self.args(arg)),
            Instruction::Copy(copy) => {
                let from = copy.options.iter().find(|flag| flag.name.value == "from");
                needs.sources.extend(from.and_then(|flag| self.value(flag)).map(Source::Copy));
            }
            Instruction::Run(run) => {
                for flag in run.options.iter().filter(|flag| flag.name.value == "mount") {
                    self.mount(flag, needs);
                }
            }
            _ => {}
        }
    }

    fn args(&self, arg: &parse_dockerfile::ArgInstruction<'_>) -> Vec<Arg> {
        let span = self.span(&arg.arguments.span);
        let split = |word: String| match word.split_once('=') {
            Some((name, default)) => Arg { name: name.to_owned(), default: Some(default.to_owned()), span },
            None => Arg { name: word, default: None, span },
        };
        expand::words(&arg.arguments.value, self.escape).into_iter().map(split).collect()
    }

    fn mount(&self, flag: &Flag<'_>, needs: &mut Needs) {
        let Some(word) = self.value(flag) else { return };
        // The value has a place of its own only if no continuation or quote was removed from it.
        let exact = word.text.len() == word.span.end - word.span.start;
        let place = |text: String, at: usize| {
            let start = word.span.start + at;
            let span = if exact && at > 0 { Span::new(start, start + text.len()) } else { word.span };
            Word { text, span }
        };
        match mounts::read(&word.text) {
            Some(Mount::From(text, at)) => needs.sources.push(Source::Mount(place(text, at))),
            Some(Mount::Secret(text, at)) => needs.secrets.push(place(text, at)),
            Some(Mount::Ssh(text, at)) => needs.ssh.push(place(text, at)),
            None => {}
        }
    }
}

/// The parser's error, placed at the whole line: the parser's columns are not reliable.
fn parser_fault(text: &str, error: &parse_dockerfile::Error) -> DockerfileFault {
    const KEYWORDS: [&str; 18] = [
        "ADD",
        "ARG",
        "CMD",
        "COPY",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "FROM",
        "HEALTHCHECK",
        "LABEL",
        "MAINTAINER",
        "ONBUILD",
        "RUN",
        "SHELL",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "WORKDIR",
    ];
    let message = format!("{error:#}");
    if error.line() == 0 {
        return DockerfileFault::parse(Span::new(0, 0), "the Dockerfile has no FROM").help("begin with `FROM image`");
    }
    let mut start = 0;
    let line = text.split_inclusive('\n').nth(error.line() - 1).unwrap_or_default();
    for before in text.split_inclusive('\n').take(error.line() - 1) {
        start += before.len();
    }
    start += line.len() - line.trim_start().len();
    let line = line.trim();
    let first = line.split_whitespace().next().unwrap_or_default();
    if !message.starts_with("unknown instruction") {
        let help = match first.to_ascii_uppercase().as_str() {
            _ if message.contains("expected FROM") => {
                "begin with `FROM image`; only `ARG` may stand before it".to_owned()
            }
            "FROM" => "write `FROM image`, or `FROM image AS name`".to_owned(),
            "COPY" | "ADD" => format!("write `{first} source target`"),
            _ => "correct the instruction that is marked".to_owned(),
        };
        return DockerfileFault::parse(Span::new(start, start + line.len()), message).help(help);
    }
    let fault =
        DockerfileFault::parse(Span::new(start, start + first.len()), format!("`{first}` is not an instruction"));
    match nearest(&first.to_uppercase(), KEYWORDS) {
        Some(meant) => fault.help(format!("did you mean `{meant}`?")),
        None => fault.help("begin each line with an instruction, or end the line before with a continuation"),
    }
}
