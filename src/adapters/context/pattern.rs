//! One pattern of an ignore file, with the meaning that moby/patternmatcher gives it. Not responsible for: the order of
//! patterns.

/// A cleaned and compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    /// The cleaned text, without `!`.
    pub text: String,
    /// Whether it begins with `!`.
    pub exception: bool,
    shape: Shape,
}

/// How a path is compared. Patterns without wildcards, and those with `**` at one end only, are compared as text. This
/// is not only faster, its result differs: `**b` is any path that ends in `b`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    Exact,
    Prefix,
    Suffix,
    Parts(Vec<Part>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Char(char),
    /// `?`
    One,
    /// `*`
    Some,
    /// `**` in the middle: nothing, or the [`Part::Folders`] that always follows it.
    Maybe,
    /// Anything that ends in a slash.
    Folders,
    /// `**` at the end.
    Rest,
    /// `[…]`
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Pattern {
    /// Compiles one pattern, which must be trimmed and not empty. The error says what is wrong with it.
    pub fn new(line: &str) -> Result<Self, String> {
        let cleaned = clean(line);
        let (exception, text) = match cleaned.strip_prefix('!') {
            Some("") => return Err("`!` names nothing".to_owned()),
            Some(text) => (true, text.to_owned()),
            None => (false, cleaned),
        };
        let shape = compile(&text)?;
        Ok(Self { text, exception, shape })
    }

    /// Whether the path itself matches, with `/` between its parts. The caller handles the folders above it.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.matches_in(path, &mut 0)
    }

    /// The same. Adds the steps that it takes.
    pub fn matches_in(&self, path: &[u8], steps: &mut usize) -> bool {
        let text = self.text.as_bytes();
        match &self.shape {
            Shape::Exact => path == text,
            Shape::Prefix => path.starts_with(&text[..text.len() - 2]),
            Shape::Suffix => {
                let suffix = &text[2..];
                path.ends_with(suffix) || suffix.strip_prefix(b"/").is_some_and(|rest| path == rest)
            }
            Shape::Parts(parts) => advance(parts, path, false, steps),
        }
    }

    /// Whether the path or a folder above it matches.
    pub fn matches_or_above(&self, path: &str) -> bool {
        let begins_with = |text: &str| {
            let rest = path.strip_prefix(text);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        match &self.shape {
            Shape::Exact => begins_with(&self.text),
            // What a folder begins with, the path begins with.
            Shape::Prefix => self.matches(path.as_bytes()),
            Shape::Suffix => {
                let suffix = &self.text[2..];
                let above = || path.contains(&format!("{suffix}/"));
                path.ends_with(suffix) || above() || suffix.strip_prefix('/').is_some_and(begins_with)
            }
            Shape::Parts(parts) => advance(parts, path.as_bytes(), true, &mut 0),
        }
    }

    /// How many comparisons a path of so many bytes takes at most.
    pub fn comparisons(&self, length: usize) -> usize {
        let each = if let Shape::Parts(parts) = &self.shape { parts.len() + 1 } else { 1 };
        each.saturating_mul(length + 1)
    }

    /// The text without `/**` or `/*` at its end.
    fn stem(&self) -> &str {
        let text = self.text.strip_suffix("/**").unwrap_or(&self.text);
        text.strip_suffix("/*").unwrap_or(text)
    }

    /// Whether everything that it matches lies at or below [`Self::stem`].
    pub fn is_plain(&self) -> bool {
        !self.stem().contains(['*', '[', ']', '?', '^', '\\'])
    }

    /// Whether a plain pattern could match something below the folder.
    pub fn could_be_below(&self, folder: &[u8]) -> bool {
        let stem = self.stem().as_bytes();
        stem == folder || stem.strip_prefix(folder).is_some_and(|rest| rest.starts_with(b"/"))
    }
}

/// The characters of some bytes. Each byte that is none is U+FFFD, as in Go.
pub(super) fn characters(bytes: &[u8]) -> impl Iterator<Item = char> {
    let one = |chunk: std::str::Utf8Chunk<'_>| {
        let odd = chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER);
        chunk.valid().chars().chain(odd).collect::<Vec<_>>()
    };
    bytes.utf8_chunks().flat_map(one)
}

/// Go's `filepath.Clean` for slashes.
pub(super) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

fn compile(text: &str) -> Result<Shape, String> {
    let mut characters = text.chars().peekable();
    let mut parts = Vec::new();
    let mut shape = Shape::Exact;
    let mut first = true;
    let wild = || Shape::Parts(Vec::new());
    while let Some(c) = characters.next() {
        let leading = std::mem::replace(&mut first, false);
        match c {
            '*' if characters.next_if_eq(&'*').is_some() => {
                characters.next_if_eq(&'/');
                if characters.peek().is_none() {
                    shape = if shape == Shape::Exact { Shape::Prefix } else { wild() };
                    parts.push(Part::Rest);
                } else {
                    shape = wild();
                    parts.extend([Part::Maybe, Part::Folders]);
                }
                if leading {
                    shape = Shape::Suffix;
                }
            }
            '*' => {
                shape = wild();
                parts.push(Part::Some);
            }
            '?' => {
                shape = wild();
                parts.push(Part::One);
            }
            '\\' => {
                shape = wild();
                parts.push(escaped(characters.next().ok_or("it ends in `\\`")?)?);
            }
            '[' => {
                shape = wild();
                parts.push(class(&mut characters)?);
            }
            ']' => {
                shape = wild();
                parts.push(Part::Char(']'));
            }
            c => parts.push(Part::Char(c)),
        }
    }
    Ok(match shape {
        Shape::Parts(_) => Shape::Parts(parts),
        shape => shape,
    })
}

/// What `\` makes of a character. BuildKit passes it to Go's regular expressions, where letters have another meaning.
fn escaped(c: char) -> Result<Part, String> {
    let class = |negated: bool, ranges: &[(char, char)]| Part::Class { negated, ranges: ranges.to_vec() };
    const DIGIT: &[(char, char)] = &[('0', '9')];
    const WORD: &[(char, char)] = &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')];
    const SPACE: &[(char, char)] = &[('\t', '\n'), ('\x0c', '\r'), (' ', ' ')];
    Ok(match c {
        'd' | 'D' => class(c == 'D', DIGIT),
        'w' | 'W' => class(c == 'W', WORD),
        's' | 'S' => class(c == 'S', SPACE),
        'a' => Part::Char('\x07'),
        'f' => Part::Char('\x0c'),
        'n' => Part::Char('\n'),
        'r' => Part::Char('\r'),
        't' => Part::Char('\t'),
        'v' => Part::Char('\x0b'),
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => Part::Char(c),
        c => return Err(format!("`\\{c}` means nothing to BuildKit: write `{c}`")),
    })
}

/// Consumes and returns what stands between `[` and `]`.
fn class(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Part, String> {
    const OPEN: &str = "a `[` is not closed";
    let negated = characters.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    let one = |characters: &mut std::iter::Peekable<std::str::Chars<'_>>| match characters.next() {
        Some('\\') => match characters.next() {
            Some(c) if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok(c),
            Some(_) => Err("a `[…]` escapes a letter or a digit"),
            None => Err(OPEN),
        },
        Some(']' | '-') => Err("a `[…]` is malformed"),
        // BuildKit makes wildcards of these, which end the class elsewhere.
        Some('*' | '?') => {
            Err("a `[…]` holds `*` or `?`, which BuildKit does not take for themselves: write `\\` before it")
        }
        Some('[') if characters.peek() == Some(&':') => {
            Err("a `[…]` holds `[:`, which BuildKit does not take for itself")
        }
        Some(c) => Ok(c),
        None => Err(OPEN),
    };
    loop {
        if !ranges.is_empty() && characters.next_if_eq(&']').is_some() {
            return Ok(Part::Class { negated, ranges });
        }
        let low = one(characters)?;
        let high = if characters.next_if_eq(&'-').is_some() { one(characters)? } else { low };
        if high < low {
            return Err(format!("the range `{low}-{high}` is empty"));
        }
        ranges.push((low, high));
    }
}

/// Whether the parts match the whole path, or with `above` a folder above it. All states advance together, so that no
/// pattern is slow.
fn advance(parts: &[Part], path: &[u8], above: bool, steps: &mut usize) -> bool {
    let (mut states, mut next) = (vec![false; parts.len() + 1], vec![false; parts.len() + 1]);
    states[0] = true;
    settle(parts, &mut states);
    for c in characters(path) {
        if above && c == '/' && states[parts.len()] {
            return true;
        }
        #[cfg(test)]
        done::add(parts.len());
        *steps += states.len();
        next.fill(false);
        for (at, part) in parts.iter().enumerate().filter(|(at, _)| states[*at]) {
            match part {
                Part::Char(wanted) if *wanted == c => next[at + 1] = true,
                Part::One if c != '/' => next[at + 1] = true,
                Part::Some if c != '/' => next[at] = true,
                // Go's `.` stops at the end of a line.
                Part::Rest if c != '\n' => next[at] = true,
                Part::Folders if c != '\n' => {
                    next[at] = true;
                    next[at + 1] |= c == '/';
                }
                Part::Class { negated, ranges } => {
                    let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
                    next[at + 1] |= inside != *negated;
                }
                _ => {}
            }
        }
        settle(parts, &mut next);
        std::mem::swap(&mut states, &mut next);
        if !states.contains(&true) {
            return false;
        }
    }
    states[parts.len()]
}

/// Moves past parts that may match nothing.
fn settle(parts: &[Part], states: &mut [bool]) {
    for (at, part) in parts.iter().enumerate() {
        if states[at] {
            match part {
                Part::Some | Part::Rest => states[at + 1] = true,
                Part::Maybe => {
                    states[at + 1] = true;
                    states[at + 2] = true;
                }
                Part::Char(_) | Part::One | Part::Folders | Part::Class { .. } => {}
            }
        }
    }
}

/// How many comparisons a test really makes.
#[cfg(test)]
pub(super) mod done {
    use std::cell::Cell;

    thread_local!(static DONE: Cell<usize> = const { Cell::new(0) });

    pub fn add(comparisons: usize) {
        DONE.set(DONE.get() + comparisons);
    }

    /// Those since the last look.
    pub fn take() -> usize {
        DONE.replace(0)
    }
}
