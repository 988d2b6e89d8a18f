//! Replaces variables and quotes in a Dockerfile's words, as BuildKit's `shell` package does. Arrays, arithmetic and
//! the rest of a real shell are not supported there either. Not responsible for: which variables there are.

use std::collections::{BTreeMap, BTreeSet};

use super::budget::{Budget, TOO_MUCH};
use super::pattern::Pattern;

/// What is known of a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Set(String),
    Unset,
    /// An image may set it whose configuration is not known here.
    Unknown,
}

/// Where variables get their values from.
pub(super) trait Values {
    fn get(&self, name: &str) -> Value;
}

impl Values for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Value {
        BTreeMap::get(self, name).map_or(Value::Unset, |value| Value::Set(value.clone()))
    }
}

/// No variable has a value.
pub(super) struct Nothing;

impl Values for Nothing {
    fn get(&self, _: &str) -> Value {
        Value::Unset
    }
}

/// A word with its variables replaced.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Expanded {
    /// The result, quotes removed.
    pub text: String,
    /// The result split at the blanks outside quotes.
    pub words: Vec<String>,
    /// Variables that had a value.
    pub set: BTreeSet<String>,
    /// Variables that had no value, whether there is a default or not.
    pub missing: BTreeSet<String>,
    /// Those that have no default, either.
    pub unset: BTreeSet<String>,
    /// Variables of which nothing is known.
    pub unknown: BTreeSet<String>,
    /// Whether it depends on a variable of which nothing is known.
    pub uncertain: bool,
}

/// The longest text that variables may make of a word, bytes. A kernel takes no longer one in an environment, and each
/// line of a hostile file can double a value.
pub(super) const LONGEST: usize = 1 << 20;
/// The most work on a word (see [`Budget`]).
const MOST: usize = 1 << 22;
/// What is wrong with a word that takes more.
pub(super) const TOO_LONG: &str = "its variables make a text of it that is too long";

/// How words are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub escape: char,
    /// Quotes stay in the result.
    pub raw_quotes: bool,
    /// Escape characters stay in the result.
    pub raw_escapes: bool,
    /// Quotes are ordinary characters.
    pub no_quotes: bool,
    /// Variables without a value stay as they are written.
    pub keep_unset: bool,
}

impl Rules {
    pub(super) fn of(escape: char) -> Self {
        Self { escape, raw_quotes: false, raw_escapes: false, no_quotes: false, keep_unset: false }
    }
}

/// Replaces the variables of `word`. The error says what is wrong with the word.
pub(super) fn expand(word: &str, escape: char, values: &dyn Values, budget: &Budget) -> Result<Expanded, String> {
    expand_by(word, Rules::of(escape), values, budget)
}

/// As [`expand`], by other rules.
pub(super) fn expand_by(word: &str, rules: Rules, values: &dyn Values, budget: &Budget) -> Result<Expanded, String> {
    if budget.is_spent() {
        return Err(TOO_MUCH.to_owned());
    }
    // Go's scanner drops a byte-order mark at the start.
    let word = word.strip_prefix('\u{feff}').unwrap_or(word);
    let mut lexer = Lexer {
        rest: word.chars().collect(),
        at: 0,
        rules,
        raw: rules.raw_escapes,
        values,
        budget,
        work: 0,
        seen: Expanded::default(),
        word: String::new(),
        depth: 0,
    };
    let (text, words) = lexer.until(None, rules.raw_escapes)?;
    if text.len() > word.len() + LONGEST {
        return Err(TOO_LONG.to_owned());
    }
    Ok(Expanded { text, words, ..lexer.seen })
}

/// The deepest nesting of `${A:-${B:-…}}`. People never nest this deep, and a hostile file must not overflow the stack.
const DEPTH: usize = 200;

struct Lexer<'a> {
    rest: Vec<char>,
    at: usize,
    rules: Rules,
    /// Whether escape characters stay just now.
    raw: bool,
    values: &'a dyn Values,
    budget: &'a Budget,
    /// What the word has taken.
    work: usize,
    seen: Expanded,
    /// The word that is being collected. BuildKit has one for all depths: `${a:-b}` forgets what stands before it.
    word: String,
    depth: usize,
}

/// The words of one depth.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    inside: bool,
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

    fn add(&mut self, words: &mut Words, text: &str, raw: bool) {
        for c in text.chars() {
            if raw || !c.is_whitespace() {
                self.word.push(c);
                words.inside = true;
            } else if words.inside && !self.word.is_empty() {
                words.done.push(std::mem::take(&mut self.word));
                words.inside = false;
            }
        }
        words.inside |= raw;
    }

    fn finish(&mut self, mut words: Words) -> Vec<String> {
        if !self.word.is_empty() {
            words.done.push(std::mem::take(&mut self.word));
        }
        words.done
    }

    /// Expands everything up to `stop`, which is consumed, or to the end. With `raw`, escapes stay, for patterns.
    fn until(&mut self, stop: Option<char>, raw: bool) -> Result<(String, Vec<String>), String> {
        let before = std::mem::replace(&mut self.raw, raw);
        self.word.clear();
        let mut words = Words::default();
        let mut text = String::new();
        while let Some(c) = self.peek() {
            if Some(c) == stop {
                self.at += 1;
                self.raw = before;
                return Ok((text, self.finish(words)));
            }
            let special = match c {
                '$' => Some(self.dollar()?),
                '<' => Some(self.less_than()),
                '\'' if !self.rules.no_quotes => Some(self.single_quoted()?),
                '"' if !self.rules.no_quotes => Some(self.double_quoted()?),
                _ => None,
            };
            if let Some(special) = special {
                // Each depth of `${A:-${B:-…}}` copies what the one below it made.
                #[cfg(test)]
                super::budget::done::add(special.len());
                self.spend(special.len())?;
                self.add(&mut words, &special, c != '$');
                text.push_str(&special);
                continue;
            }
            self.at += 1;
            let plain = c != self.rules.escape;
            let mut one = String::new();
            if plain || self.raw {
                one.push(c);
            }
            if !plain {
                one.extend(self.next());
            }
            if !one.is_empty() {
                self.add(&mut words, &one, !plain);
            }
            text.push_str(&one);
        }
        match stop {
            Some(stop) => Err(format!("`{stop}` is missing")),
            None => Ok((text, self.finish(words))),
        }
    }

    /// `<`, or `<<` with the blanks behind it: they may begin a here-document.
    fn less_than(&mut self) -> String {
        self.at += 1;
        if self.peek() != Some('<') {
            return "<".to_owned();
        }
        self.at += 1;
        let mut text = "<<".to_owned();
        while let Some(c @ ('\t' | '\r' | ' ')) = self.peek() {
            text.push(c);
            self.at += 1;
        }
        text
    }

    fn single_quoted(&mut self) -> Result<String, String> {
        self.at += 1;
        let length = self.rest[self.at..].iter().position(|c| *c == '\'').ok_or("a single quote is not closed")?;
        let inner: String = self.rest[self.at..self.at + length].iter().collect();
        self.at += length + 1;
        Ok(if self.rules.raw_quotes { format!("'{inner}'") } else { inner })
    }

    fn double_quoted(&mut self) -> Result<String, String> {
        let mut text = String::new();
        self.at += 1;
        if self.rules.raw_quotes {
            text.push('"');
        }
        loop {
            match self.peek().ok_or("a double quote is not closed")? {
                '"' => {
                    self.at += 1;
                    if self.rules.raw_quotes {
                        text.push('"');
                    }
                    return Ok(text);
                }
                '$' => {
                    let value = self.dollar()?;
                    self.spend(value.len())?;
                    text.push_str(&value);
                }
                c if c == self.rules.escape => {
                    self.at += 1;
                    if self.raw {
                        text.push(c);
                    }
                    match self.peek() {
                        Some(next) if next == '"' || next == '$' || next == self.rules.escape => {
                            text.extend(self.next());
                        }
                        Some(_) => text.push(c),
                        None => {}
                    }
                }
                c => {
                    self.at += 1;
                    text.push(c);
                }
            }
        }
    }

    /// Pays for work before it is done. A word that is too long pays as much as the longest one: it has been worked on.
    fn spend(&mut self, work: usize) -> Result<(), String> {
        self.work = self.work.saturating_add(work);
        let is_paid = self.budget.take(work.min(MOST));
        match self.work > MOST {
            true => Err(TOO_LONG.to_owned()),
            false if is_paid => Ok(()),
            false => Err(TOO_MUCH.to_owned()),
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

    fn value(&mut self, name: &str) -> Result<Value, String> {
        let value = self.values.get(name);
        match &value {
            Value::Set(text) => {
                #[cfg(test)]
                super::budget::done::add(text.len());
                self.spend(text.len())?;
                self.seen.set.insert(name.to_owned());
            }
            Value::Unset => {
                self.seen.missing.insert(name.to_owned());
                self.seen.unset.insert(name.to_owned());
            }
            Value::Unknown => {
                self.seen.uncertain = true;
                self.seen.unknown.insert(name.to_owned());
            }
        }
        Ok(value)
    }

    fn dollar(&mut self) -> Result<String, String> {
        self.at += 1;
        if self.peek() != Some('{') {
            let name = self.name();
            return match name.as_str() {
                "" => Ok("$".to_owned()),
                name => self.plain(name, format!("${name}")),
            };
        }
        self.at += 1;
        match self.peek() {
            None => return Err("`}` is missing".to_owned()),
            Some('{' | '}' | ':') => return Err("`${` must be followed by a name".to_owned()),
            Some(_) => {}
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

    fn plain(&mut self, name: &str, written: String) -> Result<String, String> {
        Ok(match self.value(name)? {
            Value::Set(value) => value,
            Value::Unset if self.rules.keep_unset => written,
            Value::Unset | Value::Unknown => String::new(),
        })
    }

    fn modified(&mut self, name: &str) -> Result<String, String> {
        let mut modifier = self.next().ok_or("`}` is missing")?;
        if modifier == '}' {
            return self.plain(name, format!("${{{name}}}"));
        }
        let null_is_unset = modifier == ':';
        if null_is_unset {
            modifier = self.next().ok_or("`}` is missing")?;
        }
        let pattern = matches!(modifier, '#' | '%');
        if modifier == '/' && !null_is_unset {
            return self.replaced(name);
        }
        let refused = || format!("`${{{name}{modifier}` is not a valid use of a variable");
        let known = matches!(modifier, '+' | '-' | '?') || (pattern && !null_is_unset);
        // After a colon BuildKit reads on, and a variable that stays as it is may have any modifier: bash's `${x:0:3}`.
        if !known && (pattern || !null_is_unset) {
            return Err(refused());
        }
        let (word, _) = self.until(Some('}'), pattern)?;
        let before = self.seen.unset.contains(name);
        let value = self.value(name)?;
        if self.rules.keep_unset && value == Value::Unset {
            let colon = if null_is_unset { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{modifier}{word}}}"));
        }
        if !known {
            return Err(refused());
        }
        if modifier == '-' && !before {
            // There is a default, so a missing value is not reported.
            self.seen.unset.remove(name);
        }
        let unknown = value == Value::Unknown;
        let value = match value {
            Value::Set(value) if !(null_is_unset && value.is_empty()) => Some(value),
            _ => None,
        };
        match modifier {
            '-' => Ok(value.unwrap_or(word)),
            '+' => Ok(value.map_or_else(String::new, |_| word)),
            '?' if unknown => Ok(String::new()),
            '?' => value.ok_or_else(|| {
                format!("{name}: {}", if word.is_empty() { "it must have a value" } else { word.as_str() })
            }),
            _ => {
                let value = value.unwrap_or_default();
                self.spend(value.len().saturating_mul(word.len()))?;
                trimmed(&value, &word, modifier)
            }
        }
    }

    /// `${name/pattern/replacement}` and `${name//pattern/replacement}`.
    fn replaced(&mut self, name: &str) -> Result<String, String> {
        let all = self.peek() == Some('/');
        if all {
            self.at += 1;
        }
        let (pattern, _) = self.until(Some('/'), true)?;
        let (replacement, _) = self.until(Some('}'), true)?;
        let value = self.value(name)?;
        if self.rules.keep_unset && value == Value::Unset {
            return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
        }
        let pattern = Pattern::new(&pattern, true)?;
        let value = if let Value::Set(value) = value { value } else { String::new() };
        self.spend(value.len().saturating_mul(pattern.length()))?;
        let text = if all { pattern.replace_all(&value, &replacement) } else { pattern.replace(&value, &replacement) };
        self.spend(text.len())?;
        Ok(text)
    }
}

/// `${name#pattern}` and `${name%pattern}`; doubled, they take the longest match.
fn trimmed(value: &str, pattern: &str, modifier: char) -> Result<String, String> {
    let (greedy, pattern) = match pattern.strip_prefix(modifier) {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let pattern = Pattern::new(pattern, greedy)?;
    Ok(if modifier == '#' { pattern.trim_start(value) } else { pattern.trim_end(value) })
}

#[cfg(test)]
#[path = "expand_tests.rs"]
mod tests;
