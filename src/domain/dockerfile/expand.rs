//! Replaces variables and quotes in a Dockerfile's words, as BuildKit's `shell` package does. Arrays, arithmetic and
//! the rest of a real shell are not supported there either.

use std::collections::{BTreeMap, BTreeSet};

/// A word with its variables replaced.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Expanded {
    /// The result, quotes removed.
    pub text: String,
    /// Variables that had no value.
    pub unset: BTreeSet<String>,
    /// Variables that were looked up.
    pub used: BTreeSet<String>,
}

/// Replaces the variables of `word`. The error says what is wrong with the word.
pub(super) fn expand(word: &str, escape: char, values: &BTreeMap<String, String>) -> Result<Expanded, String> {
    let mut lexer =
        Lexer { rest: word.chars().collect::<Vec<_>>(), at: 0, escape, values, seen: Expanded::default(), depth: 0 };
    let text = lexer.until(None, false)?;
    Ok(Expanded { text, ..lexer.seen })
}

/// Splits a text at blanks outside quotes. Quotes and escapes stay in the words.
pub(super) fn words(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        if quote.is_none() && c.is_whitespace() {
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            continue;
        }
        word.push(c);
        if c == escape && quote != Some('\'') {
            word.extend(characters.next());
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && (c == '"' || c == '\'') {
            quote = Some(c);
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// The deepest nesting of `${A:-${B:-…}}`. People never nest this deep, and a hostile file must not overflow the stack.
const DEPTH: usize = 32;

struct Lexer<'a> {
    rest: Vec<char>,
    at: usize,
    escape: char,
    values: &'a BTreeMap<String, String>,
    seen: Expanded,
    depth: usize,
}

impl Lexer<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    /// Expands everything up to `stop`, which is consumed, or to the end. With `raw`, escapes stay, for patterns.
    fn until(&mut self, stop: Option<char>, raw: bool) -> Result<String, String> {
        let mut text = String::new();
        while let Some(c) = self.next() {
            match c {
                _ if Some(c) == stop => return Ok(text),
                '\'' => self.single_quoted(&mut text)?,
                '"' => self.double_quoted(&mut text, raw)?,
                '$' => text.push_str(&self.dollar()?),
                _ if c == self.escape => {
                    if raw {
                        text.push(c);
                    }
                    text.extend(self.next());
                }
                _ => text.push(c),
            }
        }
        match stop {
            Some(stop) => Err(format!("`{stop}` is missing")),
            None => Ok(text),
        }
    }

    fn single_quoted(&mut self, text: &mut String) -> Result<(), String> {
        loop {
            match self.next() {
                Some('\'') => return Ok(()),
                Some(c) => text.push(c),
                None => return Err("a single quote is not closed".to_owned()),
            }
        }
    }

    fn double_quoted(&mut self, text: &mut String, raw: bool) -> Result<(), String> {
        loop {
            match self.next() {
                Some('"') => return Ok(()),
                Some('$') => text.push_str(&self.dollar()?),
                Some(c) if c == self.escape => {
                    if raw {
                        text.push(c);
                    }
                    match self.peek() {
                        Some(next) if next == '"' || next == '$' || next == self.escape => text.extend(self.next()),
                        Some(_) => text.push(c),
                        None => {}
                    }
                }
                Some(c) => text.push(c),
                None => return Err("a double quote is not closed".to_owned()),
            }
        }
    }

    fn name(&mut self) -> String {
        let start = self.at;
        match self.peek() {
            Some(c) if c.is_ascii_digit() => {
                while self.peek().is_some_and(|c| c.is_ascii_digit()) {
                    self.at += 1;
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => self.at += 1,
            _ => {
                while self.peek().is_some_and(|c| c.is_alphanumeric() || c == '_') {
                    self.at += 1;
                }
            }
        }
        self.rest[start..self.at].iter().collect()
    }

    fn value(&mut self, name: &str) -> Option<String> {
        self.seen.used.insert(name.to_owned());
        let value = self.values.get(name).cloned();
        if value.is_none() {
            self.seen.unset.insert(name.to_owned());
        }
        value
    }

    fn dollar(&mut self) -> Result<String, String> {
        if self.peek() != Some('{') {
            let name = self.name();
            return Ok(if name.is_empty() { "$".to_owned() } else { self.value(&name).unwrap_or_default() });
        }
        self.at += 1;
        if matches!(self.peek(), Some('{' | '}' | ':')) {
            return Err("`${` must be followed by a name".to_owned());
        }
        self.depth += 1;
        if self.depth > DEPTH {
            return Err("its variables are nested too deeply".to_owned());
        }
        let name = self.name();
        let text = self.modified(&name);
        self.depth -= 1;
        text
    }

    fn modified(&mut self, name: &str) -> Result<String, String> {
        let mut modifier = self.next().ok_or("`}` is missing")?;
        if modifier == '}' {
            return Ok(self.value(name).unwrap_or_default());
        }
        let null_is_unset = modifier == ':';
        if null_is_unset {
            modifier = self.next().ok_or("`}` is missing")?;
        }
        let pattern = matches!(modifier, '#' | '%' | '/');
        if !matches!(modifier, '+' | '-' | '?') && (!pattern || null_is_unset) {
            return Err(format!("`{modifier}` is not a modifier of a variable"));
        }
        if modifier == '/' {
            return self.replaced(name);
        }
        let before = self.seen.unset.contains(name);
        let word = self.until(Some('}'), pattern)?;
        let value = self.value(name).filter(|value| !(null_is_unset && value.is_empty()));
        if modifier == '-' && !before {
            // There is a default, so a missing value is not reported.
            self.seen.unset.remove(name);
        }
        match modifier {
            '-' => Ok(value.unwrap_or(word)),
            '+' => Ok(value.map_or_else(String::new, |_| word)),
            '?' => value.ok_or_else(|| {
                format!("{name}: {}", if word.is_empty() { "it must have a value" } else { word.as_str() })
            }),
            _ => Ok(trimmed(&value.unwrap_or_default(), &word, modifier)),
        }
    }

    /// `${name/pattern/replacement}` and `${name//pattern/replacement}`.
    fn replaced(&mut self, name: &str) -> Result<String, String> {
        let all = self.peek() == Some('/');
        if all {
            self.at += 1;
        }
        let pattern: Vec<char> = self.until(Some('/'), true)?.chars().collect();
        let replacement = self.until(Some('}'), true)?;
        let value: Vec<char> = self.value(name).unwrap_or_default().chars().collect();
        let mut text = String::new();
        let mut at = 0;
        let mut done = false;
        while at < value.len() {
            let longest = (at + 1..=value.len()).rev().find(|end| glob(&pattern, &value[at..*end]));
            match longest {
                Some(end) if all || !done => {
                    text.push_str(&replacement);
                    at = end;
                    done = true;
                }
                _ => {
                    text.push(value[at]);
                    at += 1;
                }
            }
        }
        Ok(text)
    }
}

/// `${name#pattern}` and `${name%pattern}`; doubled, they take the longest match.
fn trimmed(value: &str, pattern: &str, modifier: char) -> String {
    let (greedy, pattern) = match pattern.strip_prefix(modifier) {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let pattern: Vec<char> = pattern.chars().collect();
    let value: Vec<char> = value.chars().collect();
    let cut = |taken: &usize| {
        let part = if modifier == '#' { &value[..*taken] } else { &value[value.len() - *taken..] };
        glob(&pattern, part)
    };
    let taken = if greedy { (0..=value.len()).rev().find(cut) } else { (0..=value.len()).find(cut) }.unwrap_or(0);
    let kept = if modifier == '#' { &value[taken..] } else { &value[..value.len() - taken] };
    kept.iter().collect()
}

/// Whether the whole text matches the pattern; `*`, `?` and `\` are special. Linear in both, except for retries of the
/// last star.
fn glob(pattern: &[char], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            None if t == text.len() => return true,
            Some(&c) if t < text.len() => {
                let (literal, width) = match (c, pattern.get(p + 1)) {
                    ('\\', Some(&next)) => (Some(next), 2),
                    ('?', _) => (None, 1),
                    _ => (Some(c), 1),
                };
                if literal.is_none_or(|literal| literal == text[t]) {
                    p += width;
                    t += 1;
                    continue;
                }
            }
            _ => {}
        }
        match star {
            Some((at, taken)) if taken < text.len() => {
                star = Some((at, taken + 1));
                p = at + 1;
                t = taken + 1;
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(word: &str) -> String {
        let values = [("A", "one"), ("EMPTY", ""), ("V", "1.92.0-slim"), ("IMG", "reg.io/a/b:c")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        match expand(word, '\\', &values) {
            Ok(expanded) => expanded.text,
            Err(error) => format!("! {error}"),
        }
    }

    #[test]
    fn replaces_like_buildkit() {
        let cases = [
            ("x$A-y", "xone-y"),
            ("${A}_b", "one_b"),
            ("$A_b", ""),
            ("'$A'", "$A"),
            ("\"$A b\"", "one b"),
            ("\\$A", "$A"),
            ("a$", "a$"),
            ("${NONE:-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${NONE:-${A}x}", "onex"),
            ("${A:+yes}", "yes"),
            ("${NONE:+yes}", ""),
            ("${EMPTY+yes}", "yes"),
            ("${V%-*}", "1.92.0"),
            ("${V%.*}", "1.92"),
            ("${V%%.*}", "1"),
            ("${V#*.}", "92.0-slim"),
            ("${V##*.}", "0-slim"),
            ("${V/slim/full}", "1.92.0-full"),
            ("${V//./_}", "1_92_0-slim"),
            ("${IMG}", "reg.io/a/b:c"),
            ("${NONE:?say it}", "! NONE: say it"),
            ("${A", "! `}` is missing"),
            ("${}", "! `${` must be followed by a name"),
            ("'open", "! a single quote is not closed"),
        ];
        for (word, wanted) in cases {
            assert_eq!(shown(word), wanted, "{word}");
        }
        assert!(shown(&format!("{}x{}", "${N:-".repeat(500), "}".repeat(500))).contains("too deeply"));
    }

    #[test]
    fn tells_which_names_had_no_value() {
        let none = BTreeMap::new();
        let expanded = expand("${B:-x}$C${D:+y}", '\\', &none).expect("sound");
        assert_eq!(expanded.text, "x");
        assert_eq!(expanded.unset.iter().map(String::as_str).collect::<Vec<_>>(), ["C", "D"]);
    }

    #[test]
    fn splits_like_buildkit() {
        assert_eq!(words("A=1  B=\"x y\" C='p q' D=a\\ b", '\\'), ["A=1", "B=\"x y\"", "C='p q'", "D=a\\ b"]);
    }
}
