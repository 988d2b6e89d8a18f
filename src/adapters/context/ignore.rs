//! Ignore files: which paths of a context BuildKit leaves out. Not responsible for: walking folders.

use super::effort::{Effort, TooMuch};
use super::pattern::{Pattern, characters, clean};
use crate::domain::ports::OWN;

/// BuildKit reads no longer lines, in bytes with their end.
const LONGEST: usize = 64 * 1024;

/// The patterns of an ignore file, in order. The last pattern that matches decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignore {
    patterns: Vec<Pattern>,
    /// Whether every exception names one folder or file, so that other excluded folders can be skipped.
    plain_exceptions: bool,
}

/// Which patterns a folder matched, by their places in ascending order: its entries inherit them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inherited(Vec<usize>);

impl Inherited {
    /// How many it matched.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}

impl Ignore {
    /// Reads an ignore file. Comments, blank lines and a byte-order mark are skipped; a leading slash has no meaning.
    /// An error gives the line, counted from 1, and what is wrong with it. Bytes that are not UTF-8 become U+FFFD: BuildKit
    /// hands patterns on as JSON.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, (usize, String)> {
        let text = text.as_ref();
        let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
        let mut patterns: Vec<Pattern> = Vec::new();
        let mut unsendable = None;
        for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
            if line.len() >= LONGEST {
                return Err((at + 1, format!("BuildKit reads no line of more than {} bytes", LONGEST - 1)));
            }
            if line.starts_with(b"#") {
                continue;
            }
            let line: String = characters(line).collect();
            let (mark, rest) = match line.trim().strip_prefix('!') {
                Some(rest) => ("!", rest.trim()),
                None => ("", line.trim()),
            };
            if mark.is_empty() && rest.is_empty() {
                continue;
            }
            let cleaned = if rest.is_empty() { String::new() } else { clean(rest) };
            let cleaned = if cleaned.len() > 1 { cleaned.strip_prefix('/').unwrap_or(&cleaned) } else { &cleaned };
            patterns.push(Pattern::new(&format!("{mark}{cleaned}")).map_err(|what| (at + 1, what))?);
            if unsendable.is_none() && rest.contains(|c: char| c.is_ascii_control()) {
                unsendable = Some(at + 1);
            }
        }
        // BuildKit asks for the context with the patterns in a header of HTTP, and encodes them all if one needs it.
        if let Some(line) = unsendable.filter(|_| patterns.iter().all(|pattern| pattern.text.is_ascii())) {
            return Err((
                line,
                "it holds a control character, with which BuildKit cannot ask for the context".to_owned(),
            ));
        }
        let plain_exceptions = patterns.iter().filter(|pattern| pattern.exception).all(Pattern::is_plain);
        Ok(Self { patterns, plain_exceptions })
    }

    /// Whether there is no pattern: it leaves out nothing, as if it were not there.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Adds lian-build's own files to what is left out, whatever the ignore file says.
    #[must_use]
    pub fn without_own(mut self) -> Self {
        let own = OWN.map(|name| Pattern::new(name).expect("invariant: a plain name is a pattern"));
        self.patterns.extend(own);
        self
    }

    /// Whether the path (relative, with `/` between its parts) is left out, given what its folder matched; and what its
    /// own entries inherit. This follows `MatchesUsingParentResults` of moby/patternmatcher step by step.
    ///
    /// # Errors
    /// If no effort is left for it.
    pub fn excludes(
        &self,
        path: impl AsRef<[u8]>,
        folder: &Inherited,
        effort: &mut Effort,
    ) -> Result<(bool, Inherited), TooMuch> {
        let mut excluded = false;
        let mut inherited = Vec::new();
        let mut above = folder.0.iter().peekable();
        for (at, pattern) in self.patterns.iter().enumerate() {
            let from_folder = above.next_if(|matched| **matched == at).is_some();
            let mut steps = 1;
            // Else the pattern could change nothing here: moby skips it for this path and its entries.
            let counts = from_folder || pattern.exception == excluded;
            if counts && (from_folder || pattern.matches_in(path.as_ref(), &mut steps)) {
                inherited.push(at);
                excluded = !pattern.exception;
            }
            effort.take(steps)?;
        }
        Ok((excluded, Inherited(inherited)))
    }

    /// Whether a `COPY` of this source is told to copy what is left out, as BuildKit's rule `CopyIgnoredFile` does. It
    /// looks at no file that has exceptions. See [`Self::comparisons`].
    pub fn leaves_out_source(&self, source: &str) -> bool {
        if self.patterns.iter().any(|pattern| pattern.exception) {
            return false;
        }
        let source = clean(source);
        let all = |pattern: &Pattern| ["*", "**", "**/*"].contains(&pattern.text.as_str());
        if [".", "/"].contains(&source.as_str()) && !self.patterns.iter().any(all) {
            return false;
        }
        self.patterns.iter().any(|pattern| pattern.matches_or_above(&source))
    }

    /// How many comparisons of characters [`Self::leaves_out_source`] makes at most for a source of so many bytes.
    pub fn comparisons(&self, length: usize) -> usize {
        self.patterns.iter().map(|pattern| pattern.comparisons(length)).fold(0, usize::saturating_add)
    }

    /// Whether something below an excluded folder may be included again.
    ///
    /// # Errors
    /// If no effort is left for it.
    pub fn may_except_below(&self, folder: impl AsRef<[u8]>, effort: &mut Effort) -> Result<bool, TooMuch> {
        effort.take(self.patterns.len())?;
        let mut exceptions = self.patterns.iter().filter(|pattern| pattern.exception);
        Ok(if self.plain_exceptions {
            exceptions.any(|pattern| pattern.could_be_below(folder.as_ref()))
        } else {
            exceptions.next().is_some()
        })
    }
}
