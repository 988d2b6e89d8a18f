//! Renders faults in users' files, as text and as JSON. Not responsible for: finding them.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use serde_json::{Value, json};

use super::clip::{PLACES, clip};
use super::near::{line_of, together};
use super::shortened::Shortened;
use super::style::Style;
use super::text::{count, shown, width};
use crate::domain::base::{harmless, human_duration, shown_lines, shown_source};
use crate::domain::model::{Diagnostic, Label, Severity, Sources};

/// A diagnostic in miette's form: the labels of one file; other files become related diagnostics.
struct Drawn {
    code: Option<String>,
    severity: miette::Severity,
    message: String,
    help: Option<String>,
    source: Option<NamedSource<String>>,
    labels: Vec<LabeledSpan>,
    related: Vec<Drawn>,
}

impl Drawn {
    fn of(diagnostic: &Diagnostic, sources: &Sources) -> Self {
        let mut files: Vec<(&Path, Vec<&Label>)> = Vec::new();
        for label in &diagnostic.labels {
            let file = label.place.file.as_path();
            match files.iter_mut().find(|(other, _)| *other == file) {
                Some((_, labels)) => labels.push(label),
                None => files.push((file, vec![label])),
            }
        }
        let snippets = files.into_iter().flat_map(|(file, labels)| {
            let text = sources.get(file).map_or("", |text| &**text);
            let groups = together(labels.into_iter(), |label| line_of(text, label.place.span.start));
            groups.into_iter().map(move |labels| (file, labels))
        });
        let mut parts = snippets.map(|(file, labels)| Self::of_file(diagnostic, file, labels.into_iter(), sources));
        let mut drawn = parts.next().unwrap_or_else(|| Self::bare(diagnostic));
        drawn.related = parts.collect();
        drawn.code = Some(diagnostic.code.to_string());
        drawn.message = shown_lines(&diagnostic.message);
        let mut words = diagnostic.notes.clone();
        words.extend(diagnostic.help.clone());
        drawn.help = (!words.is_empty()).then(|| shown_lines(&words.join("\n")));
        drawn
    }

    fn bare(diagnostic: &Diagnostic) -> Self {
        Self {
            code: None,
            severity: severity(diagnostic.severity),
            message: String::new(),
            help: None,
            source: None,
            labels: Vec::new(),
            related: Vec::new(),
        }
    }

    fn of_file<'a>(
        diagnostic: &Diagnostic,
        file: &Path,
        labels: impl Iterator<Item = &'a Label>,
        sources: &Sources,
    ) -> Self {
        let text = sources.get(file).map(|text| shown_source(text));
        let labels: Vec<&Label> = labels.take(PLACES).collect();
        let place = |label: &&Label| (label.place.span.start, label.place.span.end);
        let mut places: Vec<(usize, usize)> = labels.iter().map(place).collect();
        let text = text.map(|text| clip(text, &mut places));
        let marked = labels.iter().zip(&places);
        let spans =
            marked.map(|(label, (from, to))| LabeledSpan::new(label.text.as_deref().map(shown), *from, to - from));
        let labels = if text.is_some() { spans.collect() } else { Vec::new() };
        let message = match text {
            Some(_) => String::new(),
            None => shown(&format!("in {}", file.display())),
        };
        let source = text.map(|text| NamedSource::new(shown(&file.display().to_string()), text));
        Self { message, source, labels, ..Self::bare(diagnostic) }
    }
}

fn severity(severity: Severity) -> miette::Severity {
    match severity {
        Severity::Error => miette::Severity::Error,
        Severity::Warning => miette::Severity::Warning,
    }
}

impl fmt::Display for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Drawn {}

impl miette::Diagnostic for Drawn {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.code.as_ref().map(|code| Box::new(code) as Box<dyn fmt::Display>)
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(self.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        if self.labels.is_empty() { None } else { Some(Box::new(self.labels.iter().cloned())) }
    }
}

fn handler(style: Style) -> GraphicalReportHandler {
    let theme = if style.colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    GraphicalReportHandler::new_themed(theme).with_width(style.width).with_links(false).with_context_lines(1)
}

/// Renders faults and warnings one after another, with one snippet per file.
pub fn draw_diagnostics(diagnostics: &[Diagnostic], sources: &Sources, style: Style) -> String {
    let handler = handler(style);
    let mut text = String::new();
    for diagnostic in diagnostics {
        let mut drawn = Drawn::of(diagnostic, sources);
        // Help goes last, after all snippets.
        let help = if drawn.related.is_empty() { None } else { drawn.help.take() };
        // Writing to a string cannot fail.
        let _ = handler.render_report(&mut text, &drawn);
        for related in &drawn.related {
            text.push_str(&snippet(&handler, related));
        }
        if let Some(help) = help {
            text.push_str(&help_below(&help));
        }
        text.push('\n');
    }
    harmless(&text, style.colour)
}

/// Help below the last of several snippets.
fn help_below(help: &str) -> String {
    format!("  help: {}\n", help.replace('\n', "\n        "))
}

/// Only the snippet of a related file; its header would repeat the message.
fn snippet(handler: &GraphicalReportHandler, drawn: &Drawn) -> String {
    let mut text = String::new();
    let _ = handler.render_report(&mut text, drawn);
    match text.find("╭─") {
        Some(at) => {
            let line = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
            text[line..].to_owned()
        }
        None => text,
    }
}

/// Renders an error of any module with its causes.
pub fn draw_error(report: &miette::Report, style: Style) -> String {
    let (error, rest) = Shortened::of(report.as_ref());
    let mut text = String::new();
    let _ = handler(style).with_cause_chain().render_report(&mut text, &error);
    for (source, labels) in rest {
        let severity = report.severity().unwrap_or(miette::Severity::Error);
        let (code, message, help, related) = (None, String::new(), None, Vec::new());
        let drawn = Drawn { code, severity, message, help, source: Some(source), labels, related };
        text.push_str(&snippet(&handler(style), &drawn));
    }
    if error.goes_on()
        && let Some(help) = report.help()
    {
        text.push_str(&help_below(&help.to_string()));
    }
    harmless(&text, style.colour)
}

/// An error of any module as JSON, in the form of `check`'s diagnostics.
pub fn error_json(report: &miette::Report) -> Value {
    let mut message = report.to_string();
    for cause in report.chain().skip(1) {
        message.push_str(": ");
        message.push_str(&cause.to_string());
    }
    let diagnostic = json!({
        "code": report.code().map(|code| code.to_string()),
        "severity": "error",
        "message": message,
        "help": report.help().map(|help| help.to_string()),
        "layer": null, "file": null, "line": null, "column": null,
    });
    json!({ "schema": 1, "ok": false, "diagnostics": [diagnostic] })
}

/// Output of `check --format json`. `ok` is false if there are errors or, with `strict`, warnings.
pub fn check_json(layers: usize, diagnostics: &[Diagnostic], sources: &Sources, strict: bool) -> Value {
    let rows = diagnostic_rows(diagnostics, sources);
    let ok = !diagnostics.iter().any(|diagnostic| strict || diagnostic.is_error());
    json!({ "schema": 1, "ok": ok, "layers": layers, "diagnostics": rows })
}

/// Faults and warnings as JSON, each a row.
pub fn diagnostic_rows<'a>(diagnostics: impl IntoIterator<Item = &'a Diagnostic>, sources: &Sources) -> Vec<Value> {
    diagnostics.into_iter().map(|diagnostic| row(diagnostic, sources)).collect()
}

fn row(diagnostic: &Diagnostic, sources: &Sources) -> Value {
    let place = diagnostic.labels.first().map(|label| &label.place);
    let at = place.and_then(|place| sources.get(&place.file).map(|text| place.span.line_column(text)));
    json!({
        "code": diagnostic.code,
        "severity": diagnostic.severity,
        "message": diagnostic.message,
        "help": diagnostic.help,
        "layer": diagnostic.layer,
        "file": place.map(|place| place.file.display().to_string()),
        "line": at.map(|(line, _)| line),
        "column": at.map(|(_, column)| column),
        "notes": diagnostic.notes,
    })
}

/// Summary such as `2 errors, 1 warning in 8 layers`, with the time right-aligned.
pub fn summary_line(layers: usize, diagnostics: &[Diagnostic], took: Duration, style: Style) -> String {
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).count();
    let warnings = diagnostics.len() - errors;
    let mut parts = Vec::new();
    if errors > 0 {
        parts.push(style.bad(&count(errors, "error")));
    }
    if warnings > 0 {
        parts.push(style.notable(&count(warnings, "warning")));
    }
    let left = format!("{} in {}", parts.join(", "), count(layers, "layer"));
    at_the_edges(&left, &human_duration(took), style)
}

/// One text left-aligned, one right-aligned, in at most 100 columns.
pub fn at_the_edges(left: &str, right: &str, style: Style) -> String {
    let gap = style.width.min(100).saturating_sub(width(left) + width(right)).max(2);
    format!("{left}{}{}", " ".repeat(gap), style.dim(right))
}

#[cfg(test)]
#[path = "drawing_tests.rs"]
mod drawing_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::base::{SourceLocation, Span};

    fn sources() -> Sources {
        let mut sources = Sources::default();
        sources.add("catalog/app/workflow.ncl", "{\n  name = \"app\",\n  tools_required = [\"cargo-chef\"],\n}\n");
        sources.add("catalog/rust/workflow.ncl", "{\n  name = \"rust\",\n}\n");
        sources
    }

    fn place(file: &str, start: usize, end: usize) -> SourceLocation {
        SourceLocation { file: file.into(), span: Span::new(start, end) }
    }

    fn fault() -> Diagnostic {
        Diagnostic::error(
            "lian::graph::missing_tool",
            "layer `app` needs `cargo-chef`, and none of its ancestors provides it",
        )
        .layer(&"app".into())
        .label(place("catalog/app/workflow.ncl", 38, 50), "needed here")
        .help("`rust` provides `cargo-chef`; set `build_base = \"rust\"`")
    }

    #[test]
    fn a_fault_shows_its_place_and_the_way_out() {
        insta::assert_snapshot!(draw_diagnostics(&[fault()], &sources(), Style::PLAIN));
    }

    #[test]
    fn a_fault_in_two_files_shows_both() {
        let fault = Diagnostic::error("lian::graph::cycle", "app → rust → app: each waits for the next")
            .label(place("catalog/app/workflow.ncl", 11, 16), "waits for rust")
            .label(place("catalog/rust/workflow.ncl", 11, 17), "waits for app")
            .help("remove one of them");
        insta::assert_snapshot!(draw_diagnostics(&[fault], &sources(), Style::PLAIN));
    }

    #[test]
    fn what_a_file_holds_cannot_move_the_cursor() {
        let mut sources = Sources::default();
        sources.add("catalog/\u{1b}[2Japp.ncl", "{ name = \"\u{1b}]0;title\u{7}app\u{9b}2J\" }\n");
        let evil = "\u{1b}[2J\u{202e}evil";
        let fault = Diagnostic::error("lian::nickel::contract", evil)
            .label(place("catalog/\u{1b}[2Japp.ncl", 9, 27), evil)
            .help(evil);
        for colour in [false, true] {
            let text = draw_diagnostics(std::slice::from_ref(&fault), &sources, Style { colour, ..Style::PLAIN });
            for bad in ["\u{1b}]", "\u{1b}[2J", "\u{7}", "\u{9b}", "\u{202e}"] {
                assert!(!text.contains(bad), "{text:?}");
            }
            assert!(text.contains("app") && text.contains("evil"), "{text}");
            assert_eq!(text.contains('\u{1b}'), colour, "{text:?}");
        }
    }

    #[test]
    fn colours_take_no_columns() {
        let coloured = Style { colour: true, ..Style::PLAIN };
        let line = at_the_edges(&coloured.bad("1 error"), "41 ms", coloured);
        assert_eq!(width(&line), 100, "{line:?}");
    }

    #[test]
    fn programs_get_line_and_column() {
        let warning = Diagnostic::warning("lian::graph::duplicate_tool", "twice");
        let json = check_json(8, &[fault(), warning], &sources(), false);
        assert_eq!(json["ok"], false);
        assert_eq!((&json["diagnostics"][0]["line"], &json["diagnostics"][0]["column"]), (&json!(3), &json!(21)));
        assert_eq!(json["diagnostics"][1]["file"], Value::Null);
        assert_eq!(check_json(8, &[], &sources(), true)["ok"], true);
        let only = [Diagnostic::warning("lian::x::y", "z")];
        assert_eq!(check_json(1, &only, &sources(), false)["ok"], true);
        assert_eq!(check_json(1, &only, &sources(), true)["ok"], false);
    }

    #[test]
    fn counts_read_well() {
        let line = summary_line(8, &[fault(), Diagnostic::warning("a", "b")], Duration::from_millis(41), Style::PLAIN);
        assert!(line.starts_with("1 error, 1 warning in 8 layers  "), "{line}");
        assert!(line.ends_with("41 ms"));
    }
}
