//! Directives: the comments at the very start that BuildKit takes for settings. Not responsible for: using them.

use super::go;
use super::word::Word;
use crate::domain::base::Span;

const NAMES: [&str; 3] = ["syntax", "escape", "check"];

/// One directive of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Directive {
    pub name: &'static str,
    pub value: String,
    /// Where the value begins in the line that was given.
    pub at: usize,
}

/// Reads directives line by line, and none after the first line that is none.
#[derive(Debug)]
pub(super) struct Directives {
    comment: &'static str,
    seen: Vec<&'static str>,
    done: bool,
}

impl Directives {
    pub(super) fn new(comment: &'static str) -> Self {
        Self { comment, seen: Vec::new(), done: false }
    }

    /// The directive of the next line, which has no line end. The error is the name of a directive that was there
    /// before.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<Option<Directive>, &'static str> {
        let found = if self.done { None } else { directive(line, self.comment) };
        let Some(found) = found else {
            self.done = true;
            return Ok(None);
        };
        if self.seen.contains(&found.name) {
            return Err(found.name);
        }
        self.seen.push(found.name);
        Ok(Some(found))
    }
}

fn directive(line: &[u8], comment: &str) -> Option<Directive> {
    let rest = line.strip_prefix(comment.as_bytes())?;
    let start = line.len() - rest.len() + go::leading_blanks(rest);
    let rest = &line[start..];
    let name_end = rest.iter().position(|b| !b.is_ascii_alphanumeric()).unwrap_or(rest.len());
    if !rest.first()?.is_ascii_alphabetic() {
        return None;
    }
    let name = String::from_utf8_lossy(&rest[..name_end]).to_ascii_lowercase();
    let blanks = |bytes: &[u8]| bytes.iter().take_while(|b| go::is_regex_blank(**b)).count();
    let equals = name_end + blanks(&rest[name_end..]);
    let value = rest.get(equals..)?.strip_prefix(b"=")?;
    let skipped = blanks(value);
    let trailing = value[skipped..].iter().rev().take_while(|b| go::is_regex_blank(**b)).count();
    // A value of blanks alone is its last blank.
    let (from, to) = match value.len() {
        0 => return None,
        length if skipped == length => (length - 1, length),
        length => (skipped, length - trailing),
    };
    let name = NAMES.into_iter().find(|known| *known == name)?;
    Some(Directive { name, value: go::text(&value[from..to]), at: start + equals + 1 + from })
}

/// The frontend that the file asks for: `# syntax=`, `// syntax=`, or the file as one JSON object.
pub(super) fn syntax(text: &str) -> Option<Word> {
    let start = start(text);
    let comments = ["#", "//"].into_iter();
    comments.filter_map(|comment| commented(text, comment, "syntax")).next().or_else(|| object(&text[start..], start))
}

/// The options of `# check=`.
pub(super) fn check(text: &str) -> Option<Word> {
    commented(text, "#", "check")
}

/// The options in a comment `check=…` above an instruction. The comment is without its `#`.
pub(super) fn option_of_check(comment: &str) -> Option<String> {
    directive(comment.as_bytes(), "").filter(|found| found.name == "check").map(|found| found.value)
}

/// Where directives begin: after the byte-order mark and a first line `#!…`.
fn start(text: &str) -> usize {
    let bom = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    match text[bom..].starts_with("#!") {
        true => text[bom..].find('\n').map_or(text.len(), |end| bom + end + 1),
        false => bom,
    }
}

/// The first word of a directive's value.
fn commented(text: &str, comment: &'static str, name: &str) -> Option<Word> {
    let mut directives = Directives::new(comment);
    let mut at = start(text);
    for line in text[at..].split_inclusive('\n') {
        let body = line.strip_suffix('\n').unwrap_or(line);
        let body = body.strip_suffix('\r').unwrap_or(body);
        let found = directives.line(body.as_bytes()).ok()??;
        if found.name == name {
            let value = found.value.split(' ').next().unwrap_or_default().to_owned();
            let from = at + found.at;
            let span = Span::new(from, from + value.len());
            return Some(Word { text: value, span });
        }
        at += line.len();
    }
    None
}

fn object(text: &str, start: usize) -> Option<Word> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let reference = value.as_object()?.get("syntax")?.as_str()?.to_owned();
    let at = start + text.find(&reference).unwrap_or(0);
    let span = Span::new(at, (at + reference.len()).min(start + text.len()));
    Some(Word { text: reference, span })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<(&'static str, String)> {
        directive(line.as_bytes(), "#").map(|found| (found.name, found.value))
    }

    #[test]
    fn reads_names_and_values() {
        assert_eq!(read("# Escape =\t`  "), Some(("escape", "`".to_owned())));
        assert_eq!(read("#syntax=a b "), Some(("syntax", "a b".to_owned())));
        assert_eq!(read("# escape=  "), Some(("escape", " ".to_owned())));
        assert_eq!(read("# escape="), None);
        assert_eq!(read("# other=1"), None);
        assert_eq!(read("#\u{a0}check=skip=all"), Some(("check", "skip=all".to_owned())));
    }

    #[test]
    fn a_second_one_of_a_name_is_a_fault() {
        let mut directives = Directives::new("#");
        assert!(directives.line(b"# escape=`").is_ok());
        assert_eq!(directives.line(b"# ESCAPE=`"), Err("escape"));
    }

    #[test]
    fn finds_the_frontend_wherever_buildkit_does() {
        let found = |text: &str| {
            syntax(text).map(|word| {
                assert_eq!(&text[word.span.start..word.span.end], word.text);
                word.text
            })
        };
        assert_eq!(found("\u{feff}#!/x\n# check=skip=all\r\n# syntax = a/b:1 x\nFROM c\n").as_deref(), Some("a/b:1"));
        assert_eq!(found("//syntax=a\n").as_deref(), Some("a"));
        assert_eq!(found("{\"syntax\": \"a\"}").as_deref(), Some("a"));
        assert_eq!(found("# a comment\n# syntax=a\n"), None);
        assert_eq!(found("\n# syntax=a\n"), None);
    }
}
