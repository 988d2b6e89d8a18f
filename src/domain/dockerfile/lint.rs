//! BuildKit's rules of style, which become errors under `# check=error=true`: which of them a file asks for, and what
//! they find in the file as it is written. Not responsible for: what variables make of an instruction (see `evaluate`),
//! and what an ignore file leaves out.

use std::collections::BTreeSet;

use super::directives;
use super::go;
use super::steps::{Dockerfile, Written};
use crate::domain::base::Span;
use crate::domain::model::{DockerfileFault, DockerfileFaultKind, LintFinding};

/// The rule that what is copied is not left out by the ignore file.
pub(super) const COPY: &str = "CopyIgnoredFile";

/// The rules that a file, or one of its instructions, is held to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rules {
    /// Whether a finding fails the build.
    pub error: bool,
    skip_all: bool,
    skip: BTreeSet<String>,
    experimental_all: bool,
    experimental: BTreeSet<String>,
}

impl Rules {
    /// Reads the options of `# check=`. The error is the option that is none.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let mut rules = Self::default();
        let text = text.trim();
        for option in text.splitn(3, ';').filter(|_| !text.is_empty()) {
            let unknown = || option.to_owned();
            let (name, value) = option.split_once('=').ok_or_else(unknown)?;
            let value = value.trim();
            let list = || value.split(',').map(|rule| rule.trim().to_owned()).collect();
            match (name.trim(), value) {
                ("skip", "all") => rules.skip_all = true,
                ("skip", _) => rules.skip = list(),
                ("experimental", "all") => rules.experimental_all = true,
                ("experimental", _) => rules.experimental = list(),
                ("error", value) => rules.error = go::parse_bool(value).ok_or_else(unknown)?,
                _ => return Err(unknown()),
            }
        }
        Ok(rules)
    }

    /// The rules for an instruction below these comments: the first `# check=` among them counts.
    pub(super) fn below(&self, comments: &[String]) -> Self {
        let mut rules = self.clone();
        let options = comments.iter().find_map(|comment| directives::option_of_check(comment));
        let more = options.and_then(|options| Self::read(options.split(' ').next().unwrap_or_default()).ok());
        if let Some(more) = more {
            rules.skip_all |= more.skip_all;
            rules.skip.extend(more.skip);
            rules.experimental_all |= more.experimental_all;
            rules.experimental.extend(more.experimental);
        }
        rules
    }

    /// Whether this rule is looked at.
    pub(super) fn asks_for(&self, rule: &str) -> bool {
        match rule {
            "InvalidDefinitionDescription" => self.experimental_all || self.experimental.contains(rule),
            _ => !self.skip_all && !self.skip.contains(rule),
        }
    }
}

/// The options of `# check=` in a file, or what is wrong with them.
pub(super) fn options(text: &str) -> Result<Option<String>, DockerfileFault> {
    let Some(word) = directives::check(text) else { return Ok(None) };
    match Rules::read(&word.text) {
        Ok(_) => Ok(Some(word.text)),
        Err(option) => Err(DockerfileFault::parse(word.span, format!("`{option}` is not an option of `# check=`"))
            .help("write `# check=skip=RULE,RULE` or `# check=error=true`, several with `;` between them")),
    }
}

/// What was found so far, for one set of rules.
#[derive(Debug, Default)]
pub(super) struct Findings(pub Vec<LintFinding>);

impl Findings {
    /// Adds a finding that holds whatever an image says.
    pub(super) fn add(&mut self, rules: &Rules, rule: &'static str, span: Span, message: impl Into<String>) {
        self.add_if(rules, rule, span, message, true);
    }

    /// Adds a finding. `sure`: it does not hang on an image whose configuration is not known here.
    pub(super) fn add_if(
        &mut self,
        rules: &Rules,
        rule: &'static str,
        span: Span,
        message: impl Into<String>,
        sure: bool,
    ) {
        if rules.asks_for(rule) {
            self.0.push(LintFinding { rule, message: message.into(), span, sure });
        }
    }
}

/// A finding as a fault of a file that makes it one.
pub(super) fn fault(finding: &LintFinding) -> DockerfileFault {
    let unless = if finding.sure { "" } else { ", unless the image that the stage is based on does" };
    DockerfileFault {
        kind: DockerfileFaultKind::Lint,
        message: format!("{}: {}{unless}", finding.rule, finding.message),
        span: Some(finding.span),
        help: Some(format!(
            "the file asks for it with `# check=error=true`: correct it, or write `# check=skip={}` above it",
            finding.rule
        )),
    }
}

/// What the rules find in a file as it is written, whatever is built of it.
pub(super) fn as_written(file: &Dockerfile, rules: &Rules) -> Findings {
    let mut found = Findings::default();
    for span in &file.gaps {
        found.add(rules, "NoEmptyContinuation", *span, "an empty line within an instruction");
    }
    for arg in &file.arg_lines {
        described(&mut found, rules, arg, "ARG");
    }
    let (mut names, mut commands) = (BTreeSet::new(), Vec::new());
    for stage in &file.stages {
        stage_line(&mut found, rules, &stage.written);
        if let Some(name) = &stage.name {
            if ["context", "scratch"].contains(&name.text.as_str()) {
                let message = format!("`{}` is BuildKit's own word, and names a stage", name.text);
                found.add(rules, "ReservedStageName", name.span, message);
            }
            if !names.insert(&name.text) {
                found.add(rules, "DuplicateStageName", name.span, format!("a second stage `{}`", name.text));
            }
        }
        commands.push(&stage.written);
        for step in &stage.steps {
            let own = rules.below(&step.written.comments);
            match go::lower(&step.written.command).as_str() {
                "maintainer" => {
                    let message = "MAINTAINER is outdated: write a LABEL";
                    found.add(&own, "MaintainerDeprecated", step.span, message);
                }
                "arg" => described(&mut found, rules, &step.written, "ARG"),
                _ => {}
            }
            commands.push(&step.written);
        }
    }
    casing(&mut found, rules, &commands);
    found
}

/// The case of `FROM … AS name`, and what the comment above it says.
fn stage_line(found: &mut Findings, rules: &Rules, written: &Written) {
    let own = rules.below(&written.comments);
    let [_, r#as, name] = written.words.as_slice() else { return };
    if *name != go::lower(name) {
        found.add(&own, "StageNameCasing", written.span, format!("the stage `{name}` is not in lower case"));
    }
    let (from, lower, upper) = (&written.command, go::lower(&written.command), go::upper(&written.command));
    let wanted = match () {
        () if *from == lower => go::lower(r#as),
        () if *from == upper => go::upper(r#as),
        () => r#as.clone(),
    };
    if *r#as != wanted {
        let message = format!("`{from}` and `{as}` are not in the same case", r#as = r#as);
        found.add(&own, "FromAsCasing", written.span, message);
    }
    described(found, rules, written, "FROM");
}

/// The experimental rule that a comment right above an `ARG` or a stage begins with its name.
fn described(found: &mut Findings, rules: &Rules, written: &Written, command: &str) {
    let Some(comment) = written.comments.last() else { return };
    let first = comment.split(' ').next().unwrap_or_default();
    let names: Vec<String> = match command {
        "FROM" => written.words.get(2).map(|name| go::lower(name)).into_iter().collect(),
        _ => written.words.clone(),
    };
    if !names.is_empty() && names.iter().all(|name| name != first) {
        let message = format!("the comment above this {command} does not begin with its name");
        found.add(&rules.below(&written.comments), "InvalidDefinitionDescription", written.span, message);
    }
}

/// All instructions in upper case or all in lower case, as most are.
fn casing(found: &mut Findings, rules: &Rules, commands: &[&Written]) {
    let lower = |text: &str| text == go::lower(text);
    let upper = |text: &str| text == go::upper(text);
    let lowers = commands.iter().filter(|written| lower(&written.command)).count();
    let uppers = commands.iter().filter(|written| !lower(&written.command) && upper(&written.command)).count();
    let wants_lower = lowers > uppers;
    for written in commands {
        let (sound, word) = match wants_lower {
            true => (lower(&written.command), "lower"),
            false => (upper(&written.command), "upper"),
        };
        if !sound {
            let message = format!("`{}` is not in {word} case, as most instructions are", written.command);
            found.add(rules, "ConsistentInstructionCasing", written.span, message);
        }
    }
}

/// Whether a variable's name looks like that of a secret.
pub(super) fn is_secret(name: &str) -> bool {
    const SECRET: [&str; 10] =
        ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
    // Go's `(?i)` knows two letters more for `s` and `k`.
    let folded = go::lower(name).replace('\u{17f}', "s");
    let any = |words: &[&str]| folded.split('_').any(|part| words.contains(&part));
    any(&SECRET) && !any(&["public", "file", "version"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_comments_choose_the_rules() {
        let rules = Rules::read("skip=A, B;error=true").expect("sound");
        assert!(rules.error && !rules.asks_for("A") && !rules.asks_for("B") && rules.asks_for("C"));
        assert!(!rules.asks_for("InvalidDefinitionDescription"));
        let own = rules.below(&["a word".to_owned(), "check=skip=C rest".to_owned(), "check=skip=D".to_owned()]);
        assert!(!own.asks_for("C") && own.asks_for("D") && !own.asks_for("A"));
        assert!(!rules.below(&["check=skip=all".to_owned()]).asks_for("X"));
        assert_eq!(Rules::read("skip=A;b"), Err("b".to_owned()));
    }

    #[test]
    fn reads_options_of_check() {
        for (text, sound) in [("skip=all", true), ("skip=A,B;error=true", true), ("error=maybe", false), ("x", false)] {
            assert_eq!(options(&format!("# check={text}\n")).is_ok(), sound, "{text}");
        }
        assert!(options(" # check=x\n").is_ok(), "BuildKit looks at the first column only");
    }

    #[test]
    fn names_of_secrets() {
        for (name, secret) in
            [("API_KEY", true), ("TOKEN", true), ("TOKENS", false), ("KEY_FILE", false), ("MY_PASSWORD_2", true)]
        {
            assert_eq!(is_secret(name), secret, "{name}");
        }
    }
}
