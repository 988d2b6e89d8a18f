//! Goes through a stage as BuildKit does before it builds: replaces the variables of each instruction and refuses what
//! BuildKit refuses there. Not responsible for: which stages are gone through, and in what order.

use std::collections::{BTreeMap, BTreeSet};

use super::budget::Budget;
use super::expand::{Expanded, Rules, Value, Values, expand_by};
use super::lint::{self, Findings};
use super::mounts::{Mount, MountFlag};
use super::selected::Selected;
use super::steps::{Arg, Copy, Run, Step, StepKind};
use super::word::{MountId, Word};
use super::{go, values};
use crate::domain::base::Span;
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
    /// The `ARG`s so far, with or without a value.
    args: BTreeSet<String>,
    /// Whether there was a WORKDIR.
    placed: bool,
    /// Whether a SHELL was named. `None`: an image says.
    shell: Option<bool>,
    /// The last of each instruction that should stand once in a stage.
    once: BTreeMap<String, Span>,
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
        Self {
            values: [("PATH".to_owned(), path)].into(),
            open,
            at_root: (!open).then_some(true),
            args: BTreeSet::new(),
            placed: false,
            shell: (!open).then_some(false),
            once: BTreeMap::new(),
        }
    }

    /// How many bytes a copy takes.
    pub(super) fn size(&self) -> usize {
        let values = self.values.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, String::len));
        values.chain(self.args.iter().map(String::len)).sum()
    }

    /// The scope at the start of a stage that is based on the stage that ended in this one.
    pub(super) fn inherited(&self) -> Self {
        Self { once: BTreeMap::new(), ..self.clone() }
    }
}

/// What stages ask for, by what their variables make of it.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub secrets: Vec<MountId>,
    pub ssh: Vec<MountId>,
    pub faults: Vec<DockerfileFault>,
    pub lint: Findings,
    /// Files of the context, with the bytes of the instruction that copies them, where a rule looks at them.
    pub copied: Vec<(String, Span)>,
    /// What is taken of the context.
    pub context: Selected,
}

/// What holds for all stages of a file.
pub(super) struct Context<'a> {
    pub escape: char,
    pub globals: &'a BTreeMap<String, String>,
    pub build_args: &'a BTreeMap<String, String>,
    pub rules: &'a lint::Rules,
    /// Whether another frontend than BuildKit's own reads the file.
    pub frontend: bool,
    pub budget: Budget,
}

/// Goes through the instructions of a stage, which begin in `scope`.
pub(super) fn evaluate<'s>(
    context: &Context<'_>,
    steps: impl Iterator<Item = &'s Step>,
    scope: &mut Scope,
    asked: &mut Asked,
) {
    let rules = context.rules.clone();
    let mut evaluation = Evaluation { context, scope, asked, rules, at: Span::new(0, 0) };
    for step in steps {
        evaluation.rules = context.rules.below(&step.written.comments);
        evaluation.at = step.span;
        if let Err(fault) = evaluation.step(step) {
            evaluation.asked.faults.push(fault);
        }
        // What comes behind it would be refused for nothing else.
        if context.budget.is_spent() {
            break;
        }
    }
}

struct Evaluation<'a, 'c> {
    context: &'a Context<'c>,
    scope: &'a mut Scope,
    asked: &'a mut Asked,
    /// The rules for the instruction that is gone through, and its place.
    rules: lint::Rules,
    at: Span,
}

/// A value; `None` where it depends on what is not known here.
type Known = Option<String>;

impl Evaluation<'_, '_> {
    /// Reports variables that nothing declares.
    fn undefined(&mut self, found: &Expanded) {
        let names = found.missing.iter().map(|name| (name, true)).chain(found.unknown.iter().map(|name| (name, false)));
        for (name, sure) in names {
            let declared = self.scope.args.contains(name) || self.scope.values.contains_key(name);
            if !declared && !KEPT.contains(&name.as_str()) {
                let message = format!("nothing declares the variable `{name}`");
                self.asked.lint.add_if(&self.rules, "UndefinedVar", self.at, message, sure);
            }
        }
    }

    fn expanded(&mut self, word: &Word, rules: Rules) -> Result<Expanded, DockerfileFault> {
        let found = self.parsed(word, rules)?;
        self.undefined(&found);
        Ok(found)
    }

    fn parsed(&self, word: &Word, rules: Rules) -> Result<Expanded, DockerfileFault> {
        expand_by(&word.text, rules, self.scope, &self.context.budget).map_err(|what| unreadable(word, what))
    }

    fn value(&mut self, word: &Word) -> Result<Known, DockerfileFault> {
        let found = self.expanded(word, Rules::of(self.context.escape))?;
        if found.text.contains('\0') {
            return Err(refused(word, "a value holds a zero byte, which ends it early or is refused", "take it out"));
        }
        Ok((!found.uncertain).then_some(found.text))
    }

    fn step(&mut self, step: &Step) -> Result<(), DockerfileFault> {
        self.style(step);
        match &step.kind {
            StepKind::Arg(args) => args.iter().try_for_each(|arg| self.arg(arg)),
            StepKind::Env(pairs) => {
                let pairs = pairs.iter().map(|(name, value)| Ok((self.value(name)?, self.value(value)?)));
                for (name, value) in pairs.collect::<Result<Vec<_>, _>>()? {
                    match name {
                        Some(name) => {
                            self.secret("ENV", &name);
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
            StepKind::Run(run) => {
                self.run(run)?;
                step.unfit.as_ref().map_or(Ok(()), |word| Err(unfit(word)))
            }
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
                let path = self.value(word)?;
                self.placed(word, path.as_deref());
                let at_root = path.map(|path| {
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

    fn words(&mut self, words: &[Word]) -> Result<(), DockerfileFault> {
        words.iter().try_for_each(|word| self.value(word).map(drop))
    }

    /// Rules that look at no value.
    fn style(&mut self, step: &Step) {
        let written = &step.written;
        let command = go::lower(&written.command);
        if written.old_form && ["env", "label"].contains(&command.as_str()) {
            let message = "a name and its value stand without `=` between them";
            self.asked.lint.add(&self.rules, "LegacyKeyValueFormat", self.at, message);
        }
        if ["cmd", "entrypoint", "healthcheck"].contains(&command.as_str())
            && let Some(first) = self.scope.once.insert(command.clone(), self.at)
        {
            let message = format!("a later {} replaces this one", command.to_uppercase());
            self.asked.lint.add(&self.rules, "MultipleInstructionsDisallowed", first, message);
        }
        match command.as_str() {
            "shell" => self.scope.shell = Some(true),
            "cmd" | "entrypoint" if written.old_form && self.scope.shell != Some(true) => {
                let message = format!("{} is not written as a JSON array", command.to_uppercase());
                let sure = self.scope.shell.is_some();
                self.asked.lint.add_if(&self.rules, "JSONArgsRecommended", self.at, message, sure);
            }
            _ => {}
        }
    }

    fn secret(&mut self, command: &str, name: &str) {
        if lint::is_secret(name) {
            let message = format!("{command} `{name}` looks like a secret, which the image would keep");
            self.asked.lint.add(&self.rules, "SecretsUsedInArgOrEnv", self.at, message);
        }
    }

    /// The first WORKDIR of a file is to be absolute. `path` is `None` where it hangs on an image.
    fn placed(&mut self, word: &Word, path: Option<&str>) {
        if !self.scope.placed && !path.unwrap_or(&word.text).starts_with('/') {
            let message = format!("the first WORKDIR is relative: `{}`", word.text);
            self.asked.lint.add_if(&self.rules, "WorkdirRelativePath", self.at, message, path.is_some());
        }
        self.scope.placed = true;
    }

    fn arg(&mut self, arg: &Arg) -> Result<(), DockerfileFault> {
        self.secret("ARG", &arg.name);
        let value = self.value_of(arg);
        self.scope.args.insert(arg.name.clone());
        if let Some(value) = value?.filter(|_| !KEPT.contains(&arg.name.as_str())) {
            self.scope.values.insert(arg.name.clone(), value);
        }
        Ok(())
    }

    /// The value of an `ARG`, if it has one.
    fn value_of(&mut self, arg: &Arg) -> Result<Option<Known>, DockerfileFault> {
        let given = match (self.context.build_args.get(&arg.name), &arg.default) {
            (Some(given), _) => given,
            (None, Some(default)) => {
                return self.value(&Word { text: default.clone(), span: arg.span }).map(Some);
            }
            (None, None) => match self.context.globals.get(&arg.name) {
                Some(global) => global,
                None => return Ok(None),
            },
        };
        let word = || Word { text: arg.name.clone(), span: arg.span };
        let value = self.context.budget.copy(given).map_err(|what| unreadable(&word(), what))?;
        Ok(Some(Some(value)))
    }

    fn copy(&mut self, copy: &Copy) -> Result<(), DockerfileFault> {
        self.words(&copy.others)?;
        let mut known = |word: &Option<Word>| match word {
            Some(word) => Ok(self.value(word)?.map(|value| (word.clone(), value))),
            None => Ok(None),
        };
        let chmod = known(&copy.chmod)?;
        let checksum = known(&copy.checksum)?;
        let sources = copy.sources.iter().map(|word| Ok((word, self.value(word)?))).collect::<Result<Vec<_>, _>>()?;
        self.value(&copy.target)?;
        if copy.from.is_none() {
            self.of_context(copy, &sources);
        }
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

    /// Notes what a step takes of the context.
    fn of_context(&mut self, copy: &Copy, sources: &[(&Word, Known)]) {
        let fetched = |source: &str| copy.add && (values::is_http(source) || values::is_git(source));
        for (word, source) in sources {
            match source {
                Some(source) if fetched(source) => {}
                source => self.asked.context.add(source.as_deref(), word.span),
            }
        }
        let named = sources.iter().filter_map(|(_, source)| source.clone()).filter(|source| !fetched(source));
        self.asked.copied.extend(named.filter(|_| self.rules.asks_for(lint::COPY)).map(|source| (source, self.at)));
    }

    fn run(&mut self, run: &Run) -> Result<(), DockerfileFault> {
        run.mounts.iter().try_for_each(|mount| self.mount(mount))?;
        if let Some(word) = run.device.as_ref().filter(|_| !self.context.frontend) {
            let help = "set the layer's `frontend`, such as `docker/dockerfile:1-labs`, or take the flag out";
            return Err(refused(word, "BuildKit's own frontend knows no `--device`", help));
        }
        if let Some(word) = &run.privilege {
            let message = format!("`{}` asks for a privilege that no build is granted", word.text);
            return Err(refused(
                word,
                message,
                "take the flag out: builds run in a sandbox with a network of their own",
            ));
        }
        Ok(())
    }

    fn mount(&mut self, flag: &MountFlag) -> Result<(), DockerfileFault> {
        let mut seen = Expanded::default();
        let value = |text: &str| {
            let found = expand_by(text, Rules::of(self.context.escape), self.scope, &self.context.budget)?;
            seen.missing.extend(found.missing);
            seen.unknown.extend(found.unknown);
            Ok((!found.uncertain).then_some(found.text))
        };
        let mount = flag.mount(value);
        self.undefined(&seen);
        let mount = mount.map_err(|(what, help)| refused(&flag.word, what, help))?;
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
            Some(Mount::Files { .. }) | None => {
                if flag.from.is_none() {
                    // It may be all of the context.
                    self.asked.context.add(None, self.at);
                }
                Ok(())
            }
        }
    }

    fn ports(&mut self, word: &Word) -> Result<(), DockerfileFault> {
        let found = self.parsed(word, Rules::of(self.context.escape))?;
        for port in found.words.iter().filter(|_| !found.uncertain) {
            let (host, container) = port.rsplit_once(':').unwrap_or(("", port));
            let protocol = container.split_once('/').map_or("", |(_, protocol)| protocol);
            if protocol != go::lower(protocol) {
                let message = format!("the protocol of `{port}` is not in lower case");
                self.asked.lint.add(&self.rules, "ExposeProtoCasing", self.at, message);
            }
            if host.contains(|c| c != ':') {
                let message = format!("`{port}` has an address or a port of the host");
                self.asked.lint.add(&self.rules, "ExposeInvalidFormat", self.at, message);
            }
        }
        let bad = found.words.iter().find(|port| !values::is_port(port)).filter(|_| !found.uncertain);
        match bad {
            Some(port) => {
                Err(refused(word, format!("`{port}` is not a port"), "write a port or a range, such as `8080/tcp`"))
            }
            None => Ok(()),
        }
    }
}

fn unreadable(word: &Word, what: String) -> DockerfileFault {
    let help = "correct what is marked: variables are `$NAME`, `${NAME}` or `${NAME:-default}`; `\\$` is a dollar";
    let shown = word.text.lines().next().unwrap_or_default();
    DockerfileFault {
        kind: DockerfileFaultKind::Variable,
        message: format!("`{shown}`: {what}"),
        span: Some(word.span),
        help: Some(help.to_owned()),
    }
}

/// The fault of a command that no process can be given.
fn unfit(word: &Word) -> DockerfileFault {
    match word.text.as_str() {
        "\0" => refused(word, "the command holds a zero byte, which no process can be given", "take it out"),
        _ => refused(
            word,
            "the command holds a byte that is not UTF-8: BuildKit refuses to hand it on",
            "save the file as UTF-8, or have the command make the byte, as `printf '\\351'` does",
        ),
    }
}

fn refused(word: &Word, message: impl Into<String>, help: impl Into<String>) -> DockerfileFault {
    DockerfileFault::parse(word.span, message).help(help)
}
