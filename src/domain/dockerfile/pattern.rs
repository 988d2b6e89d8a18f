//! The patterns of `${name#pattern}`, `${name%pattern}` and `${name/pattern/replacement}`. BuildKit makes regular
//! expressions of them, whose habits this follows. Not responsible for: reading words.

/// Where a text that grows is given up, bytes: no word may take that much.
const MOST: usize = 1 << 22;

/// A pattern. `*` and `?` stop at the end of a line, as in Go's expressions.
#[derive(Debug)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
    greedy: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Char(char),
    One,
    Some,
}

/// The states that lead nowhere: each is tried once.
struct Dead {
    seen: Vec<bool>,
    touched: Vec<usize>,
}

impl Dead {
    fn seen(&mut self, state: usize) -> bool {
        let before = std::mem::replace(&mut self.seen[state], true);
        if !before {
            self.touched.push(state);
        }
        before
    }

    fn forget(&mut self) {
        for state in self.touched.drain(..) {
            self.seen[state] = false;
        }
    }
}

impl Pattern {
    /// Reads a pattern. `greedy` tells whether `*` takes as much as it can. The error says what is wrong with it.
    pub(super) fn new(text: &str, greedy: bool) -> Result<Self, String> {
        let mut tokens = Vec::new();
        // Go's scanner drops a byte-order mark at the start.
        let mut characters = text.strip_prefix('\u{feff}').unwrap_or(text).chars().peekable();
        while let Some(c) = characters.next() {
            tokens.push(match c {
                '*' => Token::Some,
                '?' => Token::One,
                '\\' => match characters.next() {
                    Some(c @ ('*' | '?' | '\\' | '}' | '/')) => Token::Char(c),
                    Some(c) => return Err(format!("the pattern `{text}` escapes `{c}`")),
                    None => return Err(format!("the pattern `{text}` ends in `\\`")),
                },
                c => Token::Char(c),
            });
        }
        Ok(Self { tokens, greedy })
    }

    /// How many characters it has, `*` and `?` among them.
    pub(super) fn length(&self) -> usize {
        self.tokens.len()
    }

    /// The end of the match that begins at `start`: of several the one that a regular expression prefers.
    fn matches_at(&self, text: &[char], start: usize, dead: &mut Dead) -> Option<usize> {
        let mut waiting = vec![(0, start)];
        while let Some((p, t)) = waiting.pop() {
            #[cfg(test)]
            super::budget::done::add(1);
            if dead.seen(p * (text.len() + 1) + t) {
                continue;
            }
            let next = text.get(t).copied();
            match self.tokens.get(p) {
                None => return Some(t),
                Some(Token::Char(wanted)) if next == Some(*wanted) => waiting.push((p + 1, t + 1)),
                Some(Token::One) if next.is_some_and(|c| c != '\n') => waiting.push((p + 1, t + 1)),
                Some(Token::Some) => {
                    let more = next.filter(|c| *c != '\n').map(|_| (p, t + 1));
                    // What is pushed last is tried first.
                    match self.greedy {
                        true => waiting.extend([Some((p + 1, t)), more].into_iter().flatten()),
                        false => waiting.extend([more, Some((p + 1, t))].into_iter().flatten()),
                    }
                }
                Some(Token::Char(_) | Token::One) => {}
            }
        }
        None
    }

    /// The leftmost match at or after `from`.
    fn find(&self, text: &[char], from: usize, dead: &mut Dead) -> Option<(usize, usize)> {
        let found = (from..=text.len()).find_map(|start| Some((start, self.matches_at(text, start, dead)?)));
        dead.forget();
        found
    }

    fn dead(&self, text: &[char]) -> Dead {
        Dead { seen: vec![false; (self.tokens.len() + 1) * (text.len() + 1)], touched: Vec::new() }
    }

    /// The text without a match at its start.
    pub(super) fn trim_start(&self, text: &str) -> String {
        let text: Vec<char> = text.chars().collect();
        let end = self.matches_at(&text, 0, &mut self.dead(&text)).unwrap_or(0);
        text[end..].iter().collect()
    }

    /// The text without a match at its end: BuildKit turns both around.
    pub(super) fn trim_end(&self, text: &str) -> String {
        let turned = Self { tokens: self.tokens.iter().rev().copied().collect(), greedy: self.greedy };
        let text: String = text.chars().rev().collect();
        turned.trim_start(&text).chars().rev().collect()
    }

    /// The text with its first match replaced.
    pub(super) fn replace(&self, text: &str, replacement: &str) -> String {
        let text: Vec<char> = text.chars().collect();
        match self.find(&text, 0, &mut self.dead(&text)) {
            Some((start, end)) => {
                let (before, after) = (text[..start].iter(), text[end..].iter());
                before.copied().chain(replacement.chars()).chain(after.copied()).collect()
            }
            None => text.iter().collect(),
        }
    }

    /// The text with all matches replaced. Go takes the replacement for a template: `$0` is what matched. A text that
    /// becomes longer than any value may be ends somewhere behind that length.
    pub(super) fn replace_all(&self, text: &str, replacement: &str) -> String {
        let text: Vec<char> = text.chars().collect();
        let mut out = String::new();
        let (mut last, mut from) = (0, 0);
        let mut dead = self.dead(&text);
        while from <= text.len() && out.len() <= MOST {
            let Some((start, end)) = self.find(&text, from, &mut dead) else { break };
            out.extend(&text[last..start]);
            // Right behind a match there is no empty one.
            if end > last || start == 0 {
                fill(&mut out, replacement, &text[start..end]);
            }
            last = end;
            from = if end > from { end } else { from + 1 };
        }
        out.extend(text.get(last..).unwrap_or_default());
        out
    }
}

/// Appends a replacement with its `$name` and `${name}` replaced: `0` is what matched, all other names are empty.
fn fill(out: &mut String, replacement: &str, matched: &[char]) {
    let mut rest = replacement;
    while let Some(at) = rest.find('$').filter(|_| out.len() <= MOST) {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(behind) = after.strip_prefix('$') {
            out.push('$');
            rest = behind;
            continue;
        }
        let (name, behind) = match after.strip_prefix('{') {
            Some(inner) => {
                let length = name_length(inner);
                (&inner[..length], inner[length..].strip_prefix('}'))
            }
            None => {
                let (name, behind) = after.split_at(name_length(after));
                (name, Some(behind))
            }
        };
        match behind.filter(|_| !name.is_empty()) {
            Some(behind) => {
                if name == "0" {
                    out.extend(matched);
                }
                rest = behind;
            }
            None => {
                out.push('$');
                rest = after;
            }
        }
    }
    out.push_str(rest);
}

fn name_length(text: &str) -> usize {
    text.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text, true).expect("a pattern")
    }

    #[test]
    fn a_pattern_that_matches_nothing_at_all_is_found_between_all_characters() {
        assert_eq!(pattern("").replace("abc", "-"), "-abc");
        assert_eq!(pattern("").replace_all("abc", "-"), "-a-b-c-");
        assert_eq!(pattern("*").replace_all("abc", "-"), "-");
        assert_eq!(pattern("*").replace("", "-"), "-");
        assert_eq!(pattern("b*").replace_all("abc", "-"), "a-");
        assert_eq!(pattern("?").replace_all("a\nb", "-"), "-\n-");
    }

    #[test]
    fn a_replacement_of_all_is_a_template() {
        assert_eq!(pattern("b").replace_all("abc", "<$0${0}$1$$$ ${x>"), "a<bb$$ ${x>c");
        assert_eq!(pattern("b").replace("abc", "<$0>"), "a<$0>c");
    }

    #[test]
    fn trims_the_shortest_or_the_longest() {
        let lazy = |text| Pattern::new(text, false).expect("a pattern");
        assert_eq!((lazy("*.").trim_start("a.b.c"), pattern("*.").trim_start("a.b.c")), ("b.c".into(), "c".into()));
        assert_eq!((lazy(".*").trim_end("a.b.c"), pattern(".*").trim_end("a.b.c")), ("a.b".into(), "a".into()));
        assert!(Pattern::new("a\\b", true).is_err());
        assert!(Pattern::new("a\\", true).is_err());
    }
}
