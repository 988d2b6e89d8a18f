//! A Dockerfile as data: its stages, and what each of their instructions asks for. Not responsible for: reading it.

use super::mounts::{Mount, MountFlag};
use super::word::{MountId, Word};
use crate::domain::base::Span;

/// BuildKit's name for an empty image.
pub(super) const SCRATCH: &str = "scratch";

/// One name of an `ARG`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arg {
    /// The name.
    pub name: String,
    /// The default as written, with its variables and quotes.
    pub default: Option<String>,
    /// Bytes of the whole word.
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
    /// Ids of secret mounts that do not depend on variables.
    pub secrets: Vec<MountId>,
    /// Ids of ssh mounts that do not depend on variables.
    pub ssh: Vec<MountId>,
}

impl Needs {
    /// Adds what an instruction asks for.
    pub(super) fn add(&mut self, step: &StepKind) {
        match step {
            StepKind::Arg(args) => self.args.extend(args.iter().cloned()),
            StepKind::Copy(copy) => self.sources.extend(copy.from.clone().map(Source::Copy)),
            StepKind::Run(run) => run.mounts.iter().for_each(|mount| self.mount(mount)),
            _ => {}
        }
    }

    fn mount(&mut self, flag: &MountFlag) {
        // Without `from=` BuildKit looks for a stage of this name, and mounts the context or nothing where there is none.
        let nowhere = || Word { text: SCRATCH.to_owned(), span: flag.word.span };
        self.sources.push(Source::Mount(flag.from.clone().unwrap_or_else(nowhere)));
        match flag.mount(|value| Ok((!value.contains('$')).then(|| value.to_owned()))) {
            Ok(Some(Mount::Secret(id))) => self.secrets.push(id),
            Ok(Some(Mount::Ssh(id))) => self.ssh.push(id),
            Ok(_) | Err(_) => {}
        }
    }
}

/// How an instruction is written: what BuildKit's rules of style look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// The command in its own case.
    pub command: String,
    /// The words of `FROM`, or the names of `ARG`.
    pub words: Vec<String>,
    /// The comments above it, without `#`.
    pub comments: Vec<String>,
    /// Whether it is the older form: `ENV name value`, or `CMD` and `ENTRYPOINT` without a JSON array.
    pub old_form: bool,
    /// Bytes of the whole instruction.
    pub span: Span,
}

/// One instruction of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it asks for.
    pub kind: StepKind,
    /// Bytes of the whole instruction.
    pub span: Span,
    /// How it is written.
    pub written: Written,
    /// The first character of a `RUN`, or of one that it triggers, that no process can be given.
    pub unfit: Option<Word>,
}

/// What an instruction asks for. Words are as written: with their variables and quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepKind {
    /// `ARG`.
    Arg(Vec<Arg>),
    /// `ENV`: names and values.
    Env(Vec<(Word, Word)>),
    /// `COPY` and `ADD`.
    Copy(Box<Copy>),
    /// `RUN`: its flags.
    Run(Run),
    /// `EXPOSE`.
    Expose(Vec<Word>),
    /// `VOLUME`.
    Volume(Vec<Word>),
    /// `STOPSIGNAL`.
    StopSignal(Word),
    /// `WORKDIR`.
    WorkDir(Word),
    /// Instructions of which only the words matter: `LABEL`, `USER`.
    Words(Vec<Word>),
    /// `ONBUILD`: the text of the instruction that it triggers in what is built upon this stage.
    OnBuild(Word),
    /// Instructions without variables.
    Other,
}

/// The flags of `RUN`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Run {
    /// `--mount=`.
    pub mounts: Vec<MountFlag>,
    /// `--device=`, which BuildKit's own frontend does not take.
    pub device: Option<Word>,
    /// `--security=insecure` or `--network=host`, which a build must be granted.
    pub privilege: Option<Word>,
}

/// `COPY` or `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// Whether it is `ADD`.
    pub add: bool,
    /// `--from=`.
    pub from: Option<Word>,
    /// What is copied, here-documents left out.
    pub sources: Vec<Word>,
    /// Where to.
    pub target: Word,
    /// The contents of here-documents in which variables are replaced.
    pub documents: Vec<Word>,
    /// `--chmod=`.
    pub chmod: Option<Word>,
    /// `--checksum=`.
    pub checksum: Option<Word>,
    /// Values of other flags in which variables are replaced.
    pub others: Vec<Word>,
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
    /// Its instructions, in order.
    pub steps: Vec<Step>,
    /// How its FROM is written.
    pub written: Written,
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
    /// How the `ARG`s before the first `FROM` are written.
    pub arg_lines: Vec<Written>,
    /// Instructions with an empty line in them.
    pub gaps: Vec<Span>,
    /// The options of `# check=`, if they are sound.
    pub check: Option<String>,
    /// The stages; at least one.
    pub stages: Vec<Stage>,
}
