//! Turns Nickel's errors into diagnostics: places in the user's own files come first, Nickel's notes are kept, and
//! there is always a next action. Not responsible for: deciding what is wrong.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use codespan_reporting::diagnostic::{Diagnostic as Raw, Label as Covering, LabelStyle, Severity as RawSeverity};
use nickel_lang_core::cache::{CacheHub, SourcePath};
use nickel_lang_core::error::{Error, EvalErrorKind, IntoDiagnostics as _, TypecheckErrorKind};
use nickel_lang_core::files::{FileId, Files};
use nickel_lang_core::position::{RawSpan, TermPos};

use super::advice;
use super::embedded;
use super::guard::ImportFault;
use super::protocol::{Contract, Shown};
use super::schemas::Schemas;
use super::syntax::Outline;
use crate::domain::base::{SourceLocation, Span, nearest};
use crate::domain::model::{Diagnostic, Label};

/// The most faults that are reported for one file: more say nothing new.
const FAULTS: usize = 64;
/// The longest text in a diagnostic, in bytes: a hostile file could otherwise fill the answer.
const TEXT: usize = 2000;
/// How Nickel writes a value that it has not evaluated: an address in its memory, which tells people nothing.
const CLOSURE: &str = "%<closure@";

/// Makes diagnostics for files whose paths are shown in this way.
#[derive(Clone, Copy)]
pub(super) struct Drawer<'a> {
    /// How paths are shown.
    pub shown: &'a [Shown],
    /// What can be imported beside the user's own files.
    pub schemas: &'a Schemas,
    /// Directives, and how many bytes stand before their text: places are those of the file.
    pub bound: Option<(&'a Path, usize)>,
}

impl Drawer<'_> {
    /// How a path is shown.
    pub(super) fn shown(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(embedded::FOLDER) {
            Ok(name) => name.to_owned(),
            Err(_) => Shown::path(self.shown, path),
        }
    }

    /// The path of a source to show; `None` for generated sources and the standard library.
    pub(super) fn shown_source(&self, source: &SourcePath) -> Option<PathBuf> {
        match source {
            SourcePath::Path(path, _) => Some(self.shown(path)),
            _ => None,
        }
    }

    /// How many bytes stand before the text of a file.
    pub(super) fn before(&self, file: &Path) -> usize {
        self.bound.filter(|(bound, _)| *bound == file).map_or(0, |(_, bytes)| bytes)
    }

    /// A span as the file has it.
    fn in_file(&self, source: &SourcePath, span: Span) -> Span {
        let SourcePath::Path(path, _) = source else { return span };
        let before = self.before(path);
        Span::new(span.start.saturating_sub(before), span.end.saturating_sub(before))
    }

    fn place(&self, hub: &CacheHub, span: RawSpan) -> Option<SourceLocation> {
        let source = hub.sources.file_paths.get(&span.src_id)?;
        let inside = self.in_file(source, Span::new(span.start.to_usize(), span.end.to_usize()));
        Some(SourceLocation { file: self.shown_source(source)?, span: inside })
    }

    /// The place of a span in one of the user's files; `None` for the embedded ones.
    pub(super) fn user_place(&self, hub: &CacheHub, span: RawSpan) -> Option<SourceLocation> {
        if is_embedded(hub, span.src_id) { None } else { self.place(hub, span) }
    }

    fn at(&self, hub: &CacheHub, diagnostic: Diagnostic, span: Option<RawSpan>, text: &str) -> Diagnostic {
        match span.and_then(|span| self.place(hub, span)) {
            Some(place) => diagnostic.label(place, text),
            None => diagnostic,
        }
    }

    /// The diagnostics for an error of Nickel's.
    pub(super) fn error(&self, hub: &CacheHub, error: Error, contract: Contract) -> Vec<Diagnostic> {
        if let Error::EvalError(data) = &error
            && let EvalErrorKind::MissingFieldDef { metadata, .. } = &data.error
            && metadata.opt
        {
            return Vec::new();
        }
        let code = code(&error);
        let missing = missing_field(&error);
        let mut files = hub.sources.files().clone();
        let mut drawn: Vec<Diagnostic> = Vec::new();
        for raw in error.into_diagnostics(&mut files) {
            match (raw.severity, drawn.last_mut()) {
                (RawSeverity::Error | RawSeverity::Bug, _) | (_, None) => drawn.push(self.raw(hub, &files, code, raw)),
                // What follows explains the error before it.
                (_, Some(last)) => {
                    let labelled = self.raw(hub, &files, code, raw);
                    if !labelled.message.is_empty() && labelled.labels.is_empty() {
                        last.notes.push(labelled.message);
                    }
                    last.notes.extend(labelled.notes);
                }
            }
        }
        for diagnostic in &mut drawn {
            advice::complete(diagnostic, contract, missing.as_deref(), self.schemas);
        }
        drawn
    }

    fn raw(&self, hub: &CacheHub, files: &Files, code: &'static str, raw: Raw<FileId>) -> Diagnostic {
        let mut diagnostic = Diagnostic::error(code, advice::message(&raw.message));
        diagnostic.notes = raw.notes.iter().map(|note| note.trim().to_owned()).collect();
        diagnostic.notes.retain(|note| {
            !note.starts_with("The record contract might also be too strict") && !note.contains(CLOSURE)
        });
        let mut labels = Vec::new();
        let mut evaluated = None;
        let covers =
            |label: &Covering<FileId>, value: &str| files.source(label.file_id).get(label.range.clone()) == Some(value);
        let covered = raw.labels.clone();
        for label in raw.labels {
            let text = files.source(label.file_id).get(label.range.clone()).unwrap_or_default();
            match hub.sources.file_paths.get(&label.file_id) {
                Some(source @ SourcePath::Path(..)) => {
                    let Some(file) = self.shown_source(source) else { continue };
                    let own = is_embedded(hub, label.file_id);
                    if own && let Some(tags) = advice::tags_of(files.source(label.file_id), text) {
                        diagnostic.notes.insert(0, tags);
                    }
                    let secondary = label.style == LabelStyle::Secondary;
                    let path = source;
                    let source = hub.sources.source(label.file_id);
                    let span = first_line(source, Span::new(label.range.start, label.range.end));
                    let span = if span.start >= source.len() { last_line_end(source) } else { span };
                    let span = self.in_file(path, span);
                    let text = advice::label(&label.message, code, text);
                    labels.push(((own, secondary), Label { place: SourceLocation { file, span }, text }));
                }
                Some(SourcePath::Generated(_)) if advice::is_value(&label.message) && !text.contains("import \"") => {
                    diagnostic.notes.push(format!("it comes from `--set`: `{}`", one_line(text)));
                }
                // A value without a place: its text says what the place cannot, if all of it is a value.
                None if label.message == "evaluated to this value"
                    && text.len() < 80
                    && ![" | ", CLOSURE].iter().any(|inner| text.contains(inner)) =>
                {
                    evaluated = Some(one_line(text));
                }
                _ => {}
            }
        }
        // What the file itself shows is not repeated.
        if let Some(value) = evaluated
            && !covered.iter().any(|label| is_source(hub, label.file_id) && covers(label, &value))
        {
            diagnostic.notes.push(format!("evaluated to this value: `{value}`"));
        }
        labels.sort_by_key(|(rank, _)| *rank);
        diagnostic.labels = labels.into_iter().map(|(_, label)| label).collect();
        diagnostic
    }

    /// The diagnostics for a fault of an import.
    pub(super) fn import_fault(&self, hub: &CacheHub, fault: ImportFault, contract: Contract) -> Vec<Diagnostic> {
        match fault {
            ImportFault::Parse(errors) => self.error(hub, Error::ParseErrors(errors), contract),
            ImportFault::NotFound { path, reason, near, span } => {
                let message = format!("cannot import `{}`: {reason}", path.display());
                let help = match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "imports are looked for beside the importing file, then among `schemas/` and `defaults/`"
                        .to_owned(),
                };
                let found = Diagnostic::error("lian::nickel::import_not_found", message).help(help);
                vec![self.at(hub, found, span, "imported here")]
            }
            ImportFault::Outside { path, target, span } => {
                let message = if path == target {
                    format!("`{}` lies outside the project", path.display())
                } else {
                    format!("`{}` leads outside the project, to {}", path.display(), target.display())
                };
                let folder = target.parent().unwrap_or(&target).display().to_string();
                let found = Diagnostic::error("lian::nickel::import_outside", message)
                    .help(format!("move the file into the project, or allow it with `--allow-import {folder}`"));
                vec![self.at(hub, found, span, "imported here")]
            }
            ImportFault::Cycle { files, span } => {
                let trail: Vec<_> = files.iter().map(|file| self.shown(file).display().to_string()).collect();
                let (message, help) = match trail.as_slice() {
                    [one, again] if one == again => (format!("{one} imports itself"), "remove this import"),
                    _ => (
                        format!("{}: each imports the next", trail.join(" → ")),
                        "move what they share into a file of its own that imports none of them",
                    ),
                };
                let found = Diagnostic::error("lian::nickel::import_cycle", message).help(help);
                vec![self.at(hub, found, span, "leads back")]
            }
            ImportFault::Package { name, span } => {
                let found = Diagnostic::error(
                    "lian::nickel::import_not_found",
                    format!("cannot import the package `{name}`: lian-build does not support Nickel packages"),
                )
                .help("copy the package's files into the project and import them by path");
                vec![self.at(hub, found, span, "imported here")]
            }
        }
    }

    /// A file is a link to somewhere else.
    pub(super) fn leads_outside(&self, path: &Path) -> Diagnostic {
        let file = self.shown(path);
        let message = format!("{} is a link that leads outside the project", file.display());
        Diagnostic::error("lian::nickel::import_outside", message)
            .help("put the file itself there, or allow its folder with `--allow-import DIR`")
            .label(SourceLocation { file, span: Span::default() }, "")
    }

    /// Only the interpreter saw this import.
    pub(super) fn smuggled(&self, hub: &CacheHub, file: FileId) -> Diagnostic {
        let path = hub.sources.file_paths.get(&file).and_then(|path| self.shown_source(path)).unwrap_or_default();
        Diagnostic::error("lian::nickel::import_outside", format!("`{}` is imported in a hidden place", path.display()))
            .help("import it in a `let` at the top of the file")
    }

    /// A closed contract does not know this field.
    pub(super) fn unknown_field(&self, hub: &CacheHub, field: &str, pos: TermPos, contract: Contract) -> Diagnostic {
        let name = contract.name();
        let help = match nearest(field, contract.fields().iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("a `{name}` has the fields {}", advice::listed(contract.fields())),
        };
        let found = Diagnostic::error("lian::nickel::unknown_field", format!("a `{name}` has no field `{field}`"));
        self.at(hub, found.help(help), pos.into_opt(), "unknown field")
    }

    /// A value passed its contract but does not fit the model: the two disagree.
    pub(super) fn misfit(file: &Path, contract: Contract, error: &str) -> Diagnostic {
        let start = SourceLocation { file: file.to_owned(), span: Span::default() };
        Diagnostic::error("lian::nickel::eval", format!("this does not fit a `{}`: {error}", contract.name()))
            .help("compare its fields with `lian-build schemas --export DIR`")
            .label(start, "")
    }

    /// A value is far too large.
    pub(super) fn too_large(file: &Path, bytes: usize) -> Diagnostic {
        let start = SourceLocation { file: file.to_owned(), span: Span::default() };
        Diagnostic::error(
            "lian::nickel::limit",
            format!(
                "the declaration is {} long; at most 1.0 MB is accepted",
                crate::domain::base::human_bytes(bytes as u64)
            ),
        )
        .help("move large texts into files of the build context")
        .label(start, "")
    }

    /// A file could not be read.
    pub(super) fn unreadable(&self, path: &Path, error: &io::Error) -> Diagnostic {
        let shown = self.shown(path);
        Diagnostic::error("lian::nickel::unreadable", format!("cannot read {}: {error}", shown.display()))
            .help("check that the file is there, is text, and may be read")
            .label(SourceLocation { file: shown, span: Span::default() }, "")
    }

    /// If all places of a fault lie in the schemas, it is shown at the record that has the fault.
    fn anchor(&self, hub: &CacheHub, diagnostic: &mut Diagnostic, outline: &Outline) {
        let embedded = |label: &Label| self.schemas.holds(&label.place.file);
        if diagnostic.labels.iter().all(embedded)
            && let Some(span) = outline.record
            && let Some(mut place) = self.place(hub, span)
        {
            place.span = first_line(hub.sources.source(span.src_id), place.span);
            diagnostic.labels.insert(0, Label { place, text: Some("in this record".to_owned()) });
        }
        // Message and help say what the schemas require, so people need not read the schemas' text.
        if !diagnostic.labels.iter().all(embedded) {
            diagnostic.labels.retain(|label| !embedded(label));
        }
        // A place around the faulty one, or inside it, adds nothing and hides the point.
        if let Some(guilty) = diagnostic.labels.first().map(|label| label.place.clone()) {
            let within = |a: &SourceLocation, b: &SourceLocation| {
                a.file == b.file && a.span.start >= b.span.start && a.span.end <= b.span.end
            };
            let apart =
                |place: &SourceLocation| *place == guilty || !(within(place, &guilty) || within(&guilty, place));
            diagnostic.labels.retain(|label| apart(&label.place));
        }
    }

    /// Sorts by place, removes repeats, and limits number and length.
    pub(super) fn tidied(&self, found: Vec<Diagnostic>, hub: &CacheHub, outline: &Outline) -> Vec<Diagnostic> {
        let mut seen = HashSet::new();
        let mut found: Vec<Diagnostic> = found
            .into_iter()
            .map(|mut diagnostic| {
                if let Some(span) = advice::extra_field(&diagnostic)
                    .and_then(|field| advice::named(outline, field))
                    .filter(|_| diagnostic.labels.iter().all(|label| label.text.as_deref() != Some("unknown field")))
                    && let Some(place) = self.place(hub, span)
                {
                    diagnostic.labels.insert(0, Label { place, text: Some("unknown field".to_owned()) });
                }
                self.anchor(hub, &mut diagnostic, outline);
                bounded(&mut diagnostic);
                diagnostic
            })
            .filter(|one| {
                seen.insert((one.code.clone(), one.message.clone(), one.labels.first().cloned().map(|l| l.place)))
            })
            .collect();
        found.sort_by_key(|one| one.labels.first().map(|label| label.place.clone()));
        found.truncate(FAULTS);
        found
    }
}

fn is_source(hub: &CacheHub, file: FileId) -> bool {
    matches!(hub.sources.file_paths.get(&file), Some(SourcePath::Path(..)))
}

fn is_embedded(hub: &CacheHub, file: FileId) -> bool {
    matches!(hub.sources.file_paths.get(&file), Some(SourcePath::Path(path, _)) if path.starts_with(embedded::FOLDER))
}

fn code(error: &Error) -> &'static str {
    match error {
        Error::ParseErrors(_) => "lian::nickel::parse",
        Error::TypecheckError(data) => match data.borrow_error() {
            TypecheckErrorKind::ImportError(_) => "lian::nickel::import_not_found",
            _ => "lian::nickel::type",
        },
        Error::ImportError(_) => "lian::nickel::import_not_found",
        Error::EvalError(data) => match &data.error {
            EvalErrorKind::BlameError { label, .. } => {
                let extra = label.diagnostics.iter().filter_map(|one| one.message.as_deref());
                if extra.into_iter().any(|message| message.starts_with("extra field")) {
                    "lian::nickel::unknown_field"
                } else {
                    "lian::nickel::contract"
                }
            }
            EvalErrorKind::IllegalPolymorphicTailAccess { .. } => "lian::nickel::contract",
            EvalErrorKind::MissingFieldDef { .. } => "lian::nickel::missing_field",
            EvalErrorKind::ParseError(_) => "lian::nickel::parse",
            _ => "lian::nickel::eval",
        },
        Error::ExportError(_) | Error::IOError(_) | Error::ReplError(_) => "lian::nickel::eval",
    }
}

fn missing_field(error: &Error) -> Option<String> {
    match error {
        Error::EvalError(data) => match &data.error {
            EvalErrorKind::MissingFieldDef { id, .. } => Some(id.label().to_owned()),
            _ => None,
        },
        _ => None,
    }
}

/// A span over several lines is cut to its first line: marking a whole record hides the point.
fn first_line(source: &str, span: Span) -> Span {
    let covered = source.get(span.start..span.end).unwrap_or_default();
    match covered.split_once('\n') {
        Some((line, _)) => Span::new(span.start, span.start + line.trim_end().len().max(1)),
        None => span,
    }
}

/// Where the text of a source ends, without its last newlines.
fn last_line_end(source: &str) -> Span {
    let end = source.trim_end().len();
    Span::new(end, end)
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() > 120 { line.chars().take(119).chain(['…']).collect() } else { line }
}

fn bounded(diagnostic: &mut Diagnostic) {
    let cut = |text: &mut String| {
        if text.len() > TEXT {
            *text = text.chars().take(TEXT).chain(['…']).collect();
        }
    };
    cut(&mut diagnostic.message);
    diagnostic.notes.truncate(8);
    diagnostic.notes.iter_mut().for_each(cut);
    diagnostic.help.iter_mut().for_each(cut);
    diagnostic.labels.truncate(8);
}
