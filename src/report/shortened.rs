//! An error of any module, with the file that it points into shortened for a snippet. Not responsible for: drawing it, and
//! faults in users' files (see `diagnostics`).

use std::fmt;

use miette::{LabeledSpan, NamedSource, Severity, SourceCode, SourceSpan};

use super::clip::{PLACES, clip};
use crate::domain::base::{shown, shown_source};

/// The error with other source and labels.
pub(super) struct Shortened<'a> {
    error: &'a dyn miette::Diagnostic,
    source: Option<NamedSource<String>>,
    labels: Vec<LabeledSpan>,
}

impl<'a> Shortened<'a> {
    pub(super) fn of(error: &'a dyn miette::Diagnostic) -> Self {
        let all: Vec<LabeledSpan> = error.labels().into_iter().flatten().take(PLACES).collect();
        let mut places: Vec<(usize, usize)> = all.iter().map(|one| (one.offset(), one.offset() + one.len())).collect();
        let source = error.source_code().and_then(whole).map(|(name, text)| {
            let text = clip(shown_source(&text), &mut places);
            NamedSource::new(shown(&name), text)
        });
        let spans = all.iter().zip(places);
        let spans = spans.map(|(one, (from, to))| LabeledSpan::new(one.label().map(shown), from, to - from));
        let labels = if source.is_some() { spans.collect() } else { Vec::new() };
        Self { error, source, labels }
    }
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
        self.error.help()
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
