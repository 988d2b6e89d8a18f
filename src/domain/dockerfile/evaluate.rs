//! Goes through a stage as BuildKit does before it builds: replaces the variables of each instruction and refuses what
//! BuildKit refuses there. Not responsible for: which stages are gone through, and in what order.

use std::collections::BTreeMap;

use super::expand::{Expanded, Rules, Value, Values, expand_by};
use super::mounts::{Mount, MountFlag};
use super::steps::{Arg, Copy, Step, StepKind};
use super::values;
use super::word::Word;
use crate::domain::model::{DockerfileFault, DockerfileFaultKind};

/// What is known of the images that stages are based on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Images {
    /// They may set any variable.
    Unknown,
    /// They set nothing but `PATH`.
    Bare,
}

/// Variables that BuildKit keeps for itself.
const KEPT: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// The variables of a stage at one instruction.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    /// `None`: it has a value that is not known here.
    values: BTreeMap<String, Option<String>>,
    /// Whether an image may have set others.
    open: bool,
    /// Whether the working folder is `/`, where nothing can be mounted. `None`: an image says.
    at_root: Option<bool>,
}

impl Values for Scope {
    fn get(&self, name: &str) -> Value {
        match self.values.get(name) {
            Some(Some(value)) => Value::Set(value.clone()),
            Some(None) => Value::Unknown,
            None if self.open => Value::Unknown,
            None => Value::Unset,
        }
    }
}

impl Scope {
    /// The scope at the start of a stage that is based on an image, or on nothing.
    pub(super) fn new(images: Images, scratch: bool) -> Self {
        let open = images == Images::Unknown && !scratch;
        // Where no image says otherwise BuildKit sets a PATH.
        let path = (images == Images::Bare && !scratch).then(|| "/bin".to_owned());
        Self { values: [("PATH".to_owned(), path)].into(), open, at_root: (!open).then_some(true) }
    }
}

/// What stages ask for, by what their variables make of it.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub secrets: Vec<Word>,
    pub ssh: Vec<Word>,
    pub faults: Vec<DockerfileFault>,
}

/// What holds for all stages of a file.
pub(super) struct Context<'a> {
    pub escape: char,
    pub globals: &'a BTreeMap<String, String>,
    pub build_args: &'a BTreeMap<String, String>,
}

/// Goes through the instructions of a stage, which begin in `scope`.
pub(super) fn evaluate<'s>(
    context: &Context<'_>,
    steps: impl Iterator<Item = &'s Step>,
    scope: &mut Scope,
    asked: &mut Asked,
) {
    let mut evaluation = Evaluation { context, scope, asked };
    for step in steps {
        if let Err(fault) = evaluation.step(step) {
            evaluation.asked.faults.push(fault);
        }
    }
}

struct Evaluation<'a, 'c> {
    context: &'a Context<'c>,
    scope: &'a mut Scope,
    asked: &'a mut Asked,
}

/// A value; `None` where it depends on what is not known here.
type Known = Option<String>;

impl Evaluation<'_, '_> {
    fn expanded(&self, word: &Word, rules: Rules) -> Result<Expanded, DockerfileFault> {
        expand_by(&word.text, rules, self.scope).map_err(|what| {
            let help =
                "correct what is marked: variables are `$NAME`, `${NAME}` or `${NAME:-default}`; `\\$` is a dollar";
            let shown = word.text.lines().next().unwrap_or_default();
            DockerfileFault {
                kind: DockerfileFaultKind::Variable,
                message: format!("`{shown}`: {what}"),
                span: Some(word.span),
                help: Some(help.to_owned()),
            }
        })
    }

    fn value(&self, word: &Word) -> Result<Known, DockerfileFault> {
        let found = self.expanded(word, Rules::of(self.context.escape))?;
        Ok((!found.uncertain).then_some(found.text))
    }

    fn step(&mut self, step: &Step) -> Result<(), DockerfileFault> {
        match &step.kind {
            StepKind::Arg(args) => args.iter().try_for_each(|arg| self.arg(arg)),
            StepKind::Env(pairs) => {
                let pairs = pairs.iter().map(|(name, value)| Ok((self.value(name)?, self.value(value)?)));
                for (name, value) in pairs.collect::<Result<Vec<_>, _>>()? {
                    match name {
                        Some(name) => {
                            self.scope.values.insert(name, value);
                        }
                        // It may be any variable.
                        None => {
                            self.scope.values.values_mut().for_each(|value| *value = None);
                            self.scope.open = true;
                        }
                    }
                }
                Ok(())
            }
            StepKind::Copy(copy) => self.copy(copy),
            StepKind::Run(mounts) => mounts.iter().try_for_each(|mount| self.mount(mount)),
            StepKind::Expose(ports) => ports.iter().try_for_each(|word| self.ports(word)),
            StepKind::Volume(words) => words.iter().try_for_each(|word| match self.value(word)?.as_deref() {
                Some("") => Err(refused(word, format!("`{}` is empty", word.text), "name a folder")),
                _ => Ok(()),
            }),
            StepKind::StopSignal(word) => match self.value(word)? {
                Some(signal) if !values::is_signal(&signal) => Err(refused(
                    word,
                    format!("`{signal}` is not a signal"),
                    "write a name or a number, such as `SIGTERM`",
                )),
                _ => Ok(()),
            },
            StepKind::Words(words) => self.words(words),
            StepKind::WorkDir(word) => {
                let at_root = self.value(word)?.map(|path| {
                    let stays = values::is_root(&path);
                    if path.starts_with('/') {
                        Some(stays)
                    } else {
                        self.scope.at_root.map(|at| at && values::is_root(&format!("/{path}")))
                    }
                });
                self.scope.at_root = at_root.flatten();
                Ok(())
            }
            StepKind::OnBuild(_) | StepKind::Other => Ok(()),
        }
    }

    fn words(&self, words: &[Word]) -> Result<(), DockerfileFault> {
        words.iter().try_for_each(|word| self.value(word).map(drop))
    }

    fn arg(&mut self, arg: &Arg) -> Result<(), DockerfileFault> {
        let value = match (self.context.build_args.get(&arg.name), &arg.default) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(default)) => self.value(&Word { text: default.clone(), span: arg.span })?,
            (None, None) => match self.context.globals.get(&arg.name) {
                Some(global) => Some(global.clone()),
                None => return Ok(()),
            },
        };
        if !KEPT.contains(&arg.name.as_str()) {
            self.scope.values.insert(arg.name.clone(), value);
        }
        Ok(())
    }

    fn copy(&self, copy: &Copy) -> Result<(), DockerfileFault> {
        self.words(&copy.others)?;
        let known = |word: &Option<Word>| match word {
            Some(word) => Ok(self.value(word)?.map(|value| (word.clone(), value))),
            None => Ok(None),
        };
        let chmod = known(&copy.chmod)?;
        let checksum = known(&copy.checksum)?;
        let sources = copy.sources.iter().map(|word| Ok((word, self.value(word)?))).collect::<Result<Vec<_>, _>>()?;
        self.value(&copy.target)?;
        for document in &copy.documents {
            self.expanded(document, Rules { no_quotes: true, ..Rules::of('\\') })?;
        }
        if let Some((word, mode)) = chmod.filter(|(_, mode)| !mode.is_empty() && !values::is_mode(mode)) {
            return Err(refused(
                &word,
                format!("`{mode}` is not a mode"),
                "write an octal number up to 7777, or `u+x`",
            ));
        }
        if let Some((word, sum)) = checksum.filter(|(_, sum)| !sum.is_empty()) {
            let remote = |source: &str| values::is_http(source) || values::is_git(source);
            match sources.as_slice() {
                [(_, Some(source))] if !remote(source) => {
                    return Err(refused(
                        &word,
                        "a checksum of files of the context",
                        "take it out: only downloads have one",
                    ));
                }
                [(_, Some(source))] if !values::is_git(source) && !values::is_digest(&sum) => {
                    return Err(refused(
                        &word,
                        format!("`{sum}` is not a digest"),
                        "write `sha256:` and 64 hexadecimal digits",
                    ));
                }
                [_] => {}
                _ => return Err(refused(&word, "a checksum of several sources", "write an ADD for each")),
            }
        }
        for (word, source) in sources.iter().filter_map(|(word, source)| Some((word, source.as_ref()?))) {
            if copy.add && values::is_git(source) && !values::is_git_query(source) {
                let help =
                    "BuildKit knows `ref`, `tag`, `branch`, `subdir`, `checksum`, `keep-git-dir` and `submodules`";
                return Err(refused(word, format!("`{source}` has a setting that git sources do not have"), help));
            }
            if !copy.add && (values::is_http(source) || values::is_git(source)) {
                return Err(refused(word, format!("COPY cannot fetch `{source}`"), "write ADD for what is fetched"));
            }
        }
        Ok(())
    }

    fn mount(&mut self, flag: &MountFlag) -> Result<(), DockerfileFault> {
        let value = |text: &str| {
            let found = expand_by(text, Rules::of(self.context.escape), self.scope)?;
            Ok((!found.uncertain).then_some(found.text))
        };
        let mount = flag.mount(value).map_err(|(what, help)| refused(&flag.word, what, help))?;
        match mount {
            Some(Mount::Files { at_root, .. }) if at_root.or(self.scope.at_root) == Some(true) => {
                Err(refused(&flag.word, "nothing can be mounted at `/`", "name a folder below it with `target=`"))
            }
            Some(Mount::Secret(id)) => {
                self.asked.secrets.push(id);
                Ok(())
            }
            Some(Mount::Ssh(id)) => {
                self.asked.ssh.push(id);
                Ok(())
            }
            Some(Mount::Files { .. }) | None => Ok(()),
        }
    }

    fn ports(&self, word: &Word) -> Result<(), DockerfileFault> {
        let found = self.expanded(word, Rules::of(self.context.escape))?;
        let bad = found.words.iter().find(|port| !values::is_port(port)).filter(|_| !found.uncertain);
        match bad {
            Some(port) => {
                Err(refused(word, format!("`{port}` is not a port"), "write a port or a range, such as `8080/tcp`"))
            }
            None => Ok(()),
        }
    }
}

fn refused(word: &Word, message: impl Into<String>, help: impl Into<String>) -> DockerfileFault {
    DockerfileFault::parse(word.span, message).help(help)
}
