//! An error of any module, with the file that it points into shortened for a snippet. Not responsible for: drawing it, and
//! faults in users' files (see `diagnostics`).

use std::fmt;

use miette::{LabeledSpan, NamedSource, Severity, SourceCode, SourceSpan};

use super::clip::{PLACES, clip};
use super::near::{line_of, together};
use crate::domain::base::{shown, shown_source};

/// The error with other source and labels.
pub(super) struct Shortened<'a> {
    error: &'a dyn miette::Diagnostic,
    source: Option<NamedSource<String>>,
    labels: Vec<LabeledSpan>,
    /// Whether another snippet follows: the help stands below the last one.
    goes_on: bool,
}

/// What a snippet shows: a file, and the places that are marked in it.
pub(super) type Snippet = (NamedSource<String>, Vec<LabeledSpan>);

impl<'a> Shortened<'a> {
    /// The error with its first snippet, and the other ones: places that are far apart have a snippet each.
    pub(super) fn of(error: &'a dyn miette::Diagnostic) -> (Self, Vec<Snippet>) {
        let labels = error.labels().into_iter().flatten().take(PLACES);
        let mut snippets: Vec<Snippet> = match error.source_code().and_then(whole) {
            Some((name, text)) => {
                let groups = together(labels, |label| line_of(&text, label.offset()));
                groups.into_iter().map(|labels| snippet(&name, &text, &labels)).collect()
            }
            None => Vec::new(),
        };
        let rest = if snippets.is_empty() { Vec::new() } else { snippets.split_off(1) };
        let (source, labels) = snippets.pop().map_or((None, Vec::new()), |(source, labels)| (Some(source), labels));
        (Self { error, source, labels, goes_on: !rest.is_empty() }, rest)
    }
}

impl Shortened<'_> {
    /// Whether another snippet follows.
    pub(super) fn goes_on(&self) -> bool {
        self.goes_on
    }
}

fn snippet(name: &str, text: &str, labels: &[LabeledSpan]) -> Snippet {
    let mut places: Vec<(usize, usize)> =
        labels.iter().map(|one| (one.offset(), one.offset().saturating_add(one.len()))).collect();
    let text = clip(shown_source(text), &mut places);
    let spans = labels.iter().zip(places);
    let spans = spans.map(|(one, (from, to))| LabeledSpan::new(one.label().map(shown), from, to - from));
    (NamedSource::new(shown(name), text), spans.collect())
}

/// The name and the whole text of a source.
fn whole(source: &dyn SourceCode) -> Option<(String, String)> {
    let start = SourceSpan::new(0.into(), 0);
    let contents = source.read_span(&start, 0, usize::MAX).ok()?;
    let name = contents.name().unwrap_or_default().to_owned();
    Some((name, String::from_utf8_lossy(contents.data()).into_owned()))
}

impl fmt::Display for Shortened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.error, f)
    }
}

impl fmt::Debug for Shortened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.error, f)
    }
}

impl std::error::Error for Shortened<'_> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl miette::Diagnostic for Shortened<'_> {
    fn code<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        self.error.code()
    }

    fn severity(&self) -> Option<Severity> {
        self.error.severity()
    }

    fn help<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        self.error.help().filter(|_| !self.goes_on)
    }

    fn url<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        self.error.url()
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        if self.labels.is_empty() { None } else { Some(Box::new(self.labels.iter().cloned())) }
    }
}
