//! What BuildKit asks of each instruction, whatever is built: the number of arguments, flags, names, durations. Not
//! responsible for: what depends on variables.

use super::flags::{self, Flag, Takes};
use super::heredoc::{self, Heredoc};
use super::lines::Line;
use super::mounts::MountFlag;
use super::steps::{Arg, Copy, Needs, Run, Stage, Step, StepKind, Written};
use super::word::Word;
use super::words::{Bad, Node, Piece};
use super::{duration, go};
use crate::domain::base::{Span, nearest};

use Takes::{Many, One, Switch};

/// All instructions.
const COMMANDS: [&str; 18] = [
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

/// A sound instruction.
#[derive(Debug)]
pub(super) enum Instruction {
    From(Box<Stage>),
    Step(Box<Step>),
}

/// A cut line with its here-documents, each with the bytes of its body and where they begin in the file.
pub(super) struct Cut<'a> {
    pub line: &'a Line,
    pub node: &'a Node,
    pub documents: &'a [(Heredoc, &'a str, usize)],
    /// Where characters of the file stand for bytes that are not UTF-8, in order.
    pub replaced: &'a [usize],
}

impl Cut<'_> {
    pub(super) fn read(&self) -> Result<Instruction, Bad> {
        let node = self.node;
        let kind = match node.name().as_str() {
            "from" => return Ok(Instruction::From(Box::new(self.from()?))),
            "env" | "label" => self.pairs()?,
            "add" => self.copy(true)?,
            "copy" => self.copy(false)?,
            "run" => self.run()?,
            "arg" => StepKind::Arg(self.args()?),
            "expose" => {
                self.some_arguments()?;
                self.flags(&[])?;
                StepKind::Expose(self.words())
            }
            "volume" => {
                self.some_arguments()?;
                self.flags(&[])?;
                if let Some(empty) = node.args.iter().find(|arg| arg.text.trim().is_empty()) {
                    return Err(Bad::at(empty, "an empty volume", "name a folder"));
                }
                StepKind::Volume(
                    self.words().into_iter().map(|word| Word { text: word.text.trim().to_owned(), ..word }).collect(),
                )
            }
            name @ ("user" | "workdir" | "maintainer") => {
                let argument = self.word(self.one_argument()?);
                self.flags(&[])?;
                match name {
                    "user" => StepKind::Words(vec![argument]),
                    "workdir" => StepKind::WorkDir(argument),
                    _ => StepKind::Other,
                }
            }
            "stopsignal" => StepKind::StopSignal(self.word(self.one_argument()?)),
            "cmd" | "entrypoint" => {
                self.flags(&[])?;
                StepKind::Other
            }
            "shell" => self.shell()?,
            "healthcheck" => self.healthcheck()?,
            "onbuild" => self.onbuild()?,
            _ => return Err(self.unknown()),
        };
        let written = self.written(&kind);
        let command = match &node.trigger {
            Some(trigger) => Cut { node: trigger, ..*self },
            None => Cut { ..*self },
        };
        let unfit = (command.node.name() == "run").then(|| command.unfit()).flatten();
        Ok(Instruction::Step(Box::new(Step { kind, span: self.line.whole(), written, unfit })))
    }

    fn written(&self, kind: &StepKind) -> Written {
        let node = self.node;
        let words = match kind {
            StepKind::Arg(args) => args.iter().map(|arg| arg.name.clone()).collect(),
            _ => Vec::new(),
        };
        let old_form = match node.name().as_str() {
            "env" | "label" => node.args.iter().skip(2).step_by(3).any(|delimiter| delimiter.text.is_empty()),
            "cmd" | "entrypoint" => !node.json,
            _ => false,
        };
        let (command, comments) = (node.command.text.clone(), self.line.comments.clone());
        Written { command, words, comments, old_form, span: self.line.whole() }
    }

    fn word(&self, piece: &Piece) -> Word {
        Word { text: piece.text.clone(), span: self.line.span(piece.start, piece.end) }
    }

    fn words(&self) -> Vec<Word> {
        self.node.args.iter().map(|arg| self.word(arg)).collect()
    }

    fn command(&self) -> String {
        self.node.name().to_uppercase()
    }

    fn bad(&self, message: impl Into<String>, help: impl Into<String>) -> Bad {
        let end = self.node.rest.end.max(self.node.command.end);
        Bad { message: message.into(), help: help.into(), start: self.node.command.start, end }
    }

    fn unknown(&self) -> Bad {
        let written = &self.node.command;
        let message = format!("`{}` is not an instruction", written.text);
        let help = match nearest(&written.text.to_uppercase(), COMMANDS) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => "begin each line with an instruction, or end the line before with a continuation".to_owned(),
        };
        Bad::at(written, message, help)
    }

    fn some_arguments(&self) -> Result<(), Bad> {
        let command = self.command();
        match self.node.args.is_empty() {
            true => Err(self.bad(format!("{command} needs an argument"), format!("write `{command} …`, or remove it"))),
            false => Ok(()),
        }
    }

    fn one_argument(&self) -> Result<&Piece, Bad> {
        self.some_arguments()?;
        Ok(&self.node.args[0])
    }

    fn flags(&self, known: &[(&'static str, Takes)]) -> Result<Vec<Flag>, Bad> {
        flags::read(&self.line.text, &self.node.flags, known, &self.node.name())
    }

    fn from(&self) -> Result<Stage, Bad> {
        let args = &self.node.args;
        let help = "write `FROM image`, or `FROM image AS name`";
        let name = match args.as_slice() {
            [_] => None,
            [_, r#as, name] if go::upper(&r#as.text) == "AS" => Some(name),
            [] => return Err(self.bad("FROM names no image", help)),
            _ => return Err(self.bad("FROM takes `image`, or `image AS name`", help)),
        };
        let name = name.map(|piece| {
            let text = go::lower(&piece.text);
            let sound = text.starts_with(|c: char| c.is_ascii_lowercase())
                && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c));
            match sound {
                true => Ok(Word { text, span: self.line.span(piece.start, piece.end) }),
                false => Err(Bad::at(
                    piece,
                    format!("`{}` cannot name a stage", piece.text),
                    "begin with a letter; then letters, digits, `-`, `_` and `.`",
                )),
            }
        });
        let name = name.transpose()?;
        let flags = self.flags(&[("platform", One)])?;
        let platform = flags.first().map(|flag| self.word(&flag.value)).filter(|word| !word.text.is_empty());
        Ok(Stage {
            name,
            from: self.word(&args[0]),
            platform,
            needs: Needs::default(),
            triggers: Needs::default(),
            steps: Vec::new(),
            written: Written {
                words: args.iter().map(|arg| arg.text.clone()).collect(),
                ..self.written(&StepKind::Other)
            },
        })
    }

    fn pairs(&self) -> Result<StepKind, Bad> {
        self.flags(&[])?;
        self.some_arguments()?;
        let mut pairs = Vec::new();
        for pair in self.node.args.chunks(3) {
            let [name, value, _] = pair else { continue };
            if name.text.is_empty() {
                return Err(Bad::at(name, format!("{} without a name", self.command()), "write `name=value`"));
            }
            pairs.push((self.word(name), self.word(value)));
        }
        Ok(match self.node.name().as_str() {
            "env" => StepKind::Env(pairs),
            _ => StepKind::Words(pairs.into_iter().flat_map(|(name, value)| [name, value]).collect()),
        })
    }

    fn args(&self) -> Result<Vec<Arg>, Bad> {
        self.some_arguments()?;
        let one = |piece: &Piece| {
            let span = self.line.span(piece.start, piece.end);
            match piece.text.split_once('=') {
                Some(("", _)) => Err(Bad::at(piece, "ARG without a name", "write `ARG name=value`")),
                Some((name, default)) => Ok(Arg { name: name.to_owned(), default: Some(default.to_owned()), span }),
                None => Ok(Arg { name: piece.text.clone(), default: None, span }),
            }
        };
        self.node.args.iter().map(one).collect()
    }

    fn copy(&self, add: bool) -> Result<StepKind, Bad> {
        let command = self.command();
        let [sources @ .., target] = self.node.args.as_slice() else {
            return Err(self.bad(format!("{command} copies nothing"), format!("write `{command} source target`")));
        };
        if sources.is_empty() {
            let message = format!("{command} needs a source and a target");
            return Err(self.bad(message, format!("write `{command} source target`")));
        }
        const ADD: &[(&str, Takes)] = &[
            ("chown", One),
            ("chmod", One),
            ("link", Switch),
            ("keep-git-dir", Switch),
            ("checksum", One),
            ("unpack", Switch),
            ("exclude", Many),
        ];
        const COPY: &[(&str, Takes)] =
            &[("chown", One), ("from", One), ("chmod", One), ("link", Switch), ("exclude", Many), ("parents", Switch)];
        let flags = self.flags(if add { ADD } else { COPY })?;
        let flag = |name: &str| {
            let found = flags.iter().find(|flag| flag.name == name && !flag.value.text.is_empty());
            found.map(|flag| self.word(&flag.value))
        };
        let document = |piece: &Piece| heredoc::one(&piece.text).ok().flatten();
        if document(target).is_some() {
            return Err(Bad::at(
                target,
                format!("{command} cannot copy to a here-document"),
                "name a target behind it",
            ));
        }
        let mut copy = Copy {
            add,
            from: flag("from"),
            sources: Vec::new(),
            target: self.word(target),
            documents: Vec::new(),
            chmod: flag("chmod"),
            checksum: flag("checksum"),
            others: flag("chown").into_iter().collect(),
        };
        for source in sources {
            match document(source) {
                None => copy.sources.push(self.word(source)),
                Some(found) if found.expand => copy.documents.extend(self.document(source, &found)),
                Some(_) => {}
            }
        }
        Ok(StepKind::Copy(Box::new(copy)))
    }

    /// The body of the last here-document of this name, which is the one that BuildKit takes.
    fn document(&self, source: &Piece, found: &Heredoc) -> Option<Word> {
        let (_, body, _) = self.documents.iter().rev().find(|(known, ..)| known.name == found.name)?;
        let text = match found.chomp {
            true => body.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect(),
            false => (*body).to_owned(),
        };
        Some(Word { text, span: self.line.span(source.start, source.end) })
    }

    fn run(&self) -> Result<StepKind, Bad> {
        let flags = self.flags(&[("device", Many), ("mount", Many), ("network", One), ("security", One)])?;
        let mut run = Run::default();
        for Flag { name, value } in &flags {
            let allowed: &[&str] = match *name {
                "mount" => {
                    let span = self.line.span(value.start, value.end);
                    run.mounts
                        .push(MountFlag::read(&value.text, span).map_err(|(what, help)| Bad::at(value, what, help))?);
                    continue;
                }
                "device" => {
                    super::mounts::check_device(&value.text)
                        .map_err(|what| Bad::at(value, what, "write `--device=vendor/class=name,required`"))?;
                    run.device = Some(self.word(value));
                    continue;
                }
                "network" => &["default", "none", "host"],
                _ => &["insecure", "sandbox"],
            };
            if !allowed.contains(&value.text.as_str()) {
                let message = format!("`{}` is not a value of `--{name}`", value.text);
                return Err(Bad::at(value, message, format!("write one of `{}`", allowed.join("`, `"))));
            }
            if ["host", "insecure"].contains(&value.text.as_str()) {
                let text = format!("--{name}={}", value.text);
                run.privilege = Some(Word { text, ..self.word(value) });
            }
        }
        Ok(StepKind::Run(run))
    }

    /// What no process can be given of a command and its here-documents: a zero byte, or one that is not UTF-8. JSON
    /// replaces the latter, and a script is a file, which may hold anything.
    fn unfit(&self) -> Option<Word> {
        let Node { rest, json, args, .. } = self.node;
        if *json {
            return args
                .iter()
                .find(|arg| arg.text.contains('\0'))
                .map(|arg| Word { text: "\0".to_owned(), ..self.word(arg) });
        }
        let alone = heredoc::one(&rest.text).ok().flatten().is_some();
        if let (true, Some((_, body, _))) = (alone, self.documents.first())
            && body.trim_start_matches('\t').starts_with("#!")
        {
            return None;
        }
        let bodies =
            self.documents.iter().flat_map(|(_, body, at)| body.char_indices().map(move |(index, c)| (at + index, c)));
        let command = go::text(&self.line.text[rest.start..rest.end]);
        let written = command.char_indices().map(|(index, c)| (self.line.place(rest.start + index), c));
        let is_unfit = |at: usize, c: char| match c {
            '\0' => true,
            char::REPLACEMENT_CHARACTER => self.replaced.binary_search(&at).is_ok(),
            _ => false,
        };
        let (at, c) = written.chain(bodies).find(|(at, c)| is_unfit(*at, *c))?;
        Some(Word { text: c.to_string(), span: Span::new(at, at + c.len_utf8()) })
    }

    fn shell(&self) -> Result<StepKind, Bad> {
        self.flags(&[])?;
        if self.node.args.is_empty() || !self.node.json {
            return Err(self.bad("SHELL takes a JSON array of strings", "write `SHELL [\"/bin/bash\", \"-c\"]`"));
        }
        Ok(StepKind::Other)
    }

    fn healthcheck(&self) -> Result<StepKind, Bad> {
        let help = "write `HEALTHCHECK CMD …`, or `HEALTHCHECK NONE`";
        let Some((kind, command)) = self.node.args.split_first() else {
            return Err(self.bad("HEALTHCHECK needs a command", help));
        };
        match go::upper(&kind.text).as_str() {
            "NONE" if command.is_empty() => return Ok(StepKind::Other),
            "NONE" => return Err(self.bad("HEALTHCHECK NONE takes no arguments", help)),
            "CMD" if command.is_empty() => return Err(self.bad("HEALTHCHECK CMD has no command", help)),
            "CMD" => {}
            _ => return Err(Bad::at(kind, format!("HEALTHCHECK does not know `{}`", kind.text), help)),
        }
        const FLAGS: &[(&str, Takes)] =
            &[("interval", One), ("timeout", One), ("start-period", One), ("start-interval", One), ("retries", One)];
        for Flag { name, value } in self.flags(FLAGS)?.iter().filter(|flag| !flag.value.text.is_empty()) {
            let sound = match *name {
                "retries" => value.text.parse::<i32>().is_ok_and(|times| times >= 0),
                _ => duration::nanoseconds(&value.text).is_some_and(|time| time == 0 || time >= 1_000_000),
            };
            if !sound {
                let help = match *name {
                    "retries" => "write a number, such as `--retries=3`".to_owned(),
                    name => format!("write a duration of a millisecond or more, such as `--{name}=1m30s`"),
                };
                return Err(Bad::at(value, format!("`{}` is not a value of `--{name}`", value.text), help));
            }
        }
        Ok(StepKind::Other)
    }

    /// What the trigger of `ONBUILD` asks for, if it can be read. BuildKit itself reads it only where it runs.
    pub(super) fn triggered(&self) -> Option<StepKind> {
        let node = self.node.trigger.as_deref()?;
        match (Cut { node, ..*self }).read() {
            Ok(Instruction::Step(step)) => Some(step.kind),
            _ => None,
        }
    }

    fn onbuild(&self) -> Result<StepKind, Bad> {
        self.some_arguments()?;
        self.flags(&[])?;
        let trigger = &self.node.args[0];
        let help = "write an instruction that a stage may have, such as `ONBUILD RUN …`";
        match go::upper(trigger.text.trim()).as_str() {
            "ONBUILD" => return Err(Bad::at(trigger, "ONBUILD cannot trigger another ONBUILD", help)),
            name @ ("MAINTAINER" | "FROM") => {
                return Err(Bad::at(trigger, format!("ONBUILD cannot trigger {name}"), help));
            }
            _ => {}
        }
        // BuildKit cuts the command off the whole line, flags and all, and puts the here-documents behind it. It does
        // not find the command behind other blanks than these.
        let blank = ['\t', '\n', '\u{c}', '\r', ' '];
        let line = go::text(&self.line.text);
        let mut text = match line.trim_start_matches(blank).strip_prefix(self.node.command.text.as_str()) {
            Some(rest) => rest.trim_start_matches(blank).to_owned(),
            None => line,
        };
        for (found, body, _) in self.documents {
            text.push('\n');
            text.push_str(body);
            text.push_str(&found.name);
        }
        Ok(StepKind::OnBuild(Word { text, span: self.line.span(trigger.start, self.node.rest.end) }))
    }
}
