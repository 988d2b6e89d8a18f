//! Whatever a file holds and wherever a fault points into it, it is drawn.

use proptest::prelude::*;

use super::*;
use crate::domain::base::{SourceLocation, Span};

fn at(file: &str, (start, end): (usize, usize)) -> SourceLocation {
    SourceLocation { file: file.into(), span: Span { start, end } }
}

/// Pieces that are hard to draw, some of them many times.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("word ".to_owned()),
        Just("\t".to_owned()),
        Just("\n".to_owned()),
        Just("\r\n".to_owned()),
        Just("\r".to_owned()),
        Just("ö漢👩‍👩‍👧".to_owned()),
        Just("\u{202e}\u{2066}".to_owned()),
        Just("\u{200b}\u{feff}\u{301}".to_owned()),
        Just("\u{1b}[2J\u{9b}\0".to_owned()),
        "\\PC{0,4}",
    ];
    let many = (piece, prop_oneof![Just(1usize), 1usize..5, Just(700), Just(20_000)]);
    prop::collection::vec(many.prop_map(|(piece, times)| piece.repeat(times)), 0..6).prop_map(|parts| parts.concat())
}

/// Spans in a text, at its end and beyond, also such as end before they begin.
fn spans() -> impl Strategy<Value = Vec<(f64, f64, usize)>> {
    prop::collection::vec((0.0..1.2, 0.0..1.2, 0usize..4), 1..5)
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "any place")]
fn places(text: &str, spans: &[(f64, f64, usize)]) -> Vec<(usize, usize)> {
    let at = |part: f64, more: usize| (text.len() as f64 * part) as usize + more;
    spans.iter().map(|(from, to, more)| (at(*from, *more), at(*to, *more))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, ..ProptestConfig::default() })]

    #[test]
    fn any_place_in_any_text_is_drawn(text in hostile(), spans in spans()) {
        let mut sources = Sources::default();
        sources.add("a.ncl", text.as_str());
        let mut fault = Diagnostic::error("lian::x::y", "the message");
        for place in places(&text, &spans) {
            fault = fault.label(at("a.ncl", place), "here");
        }
        let other = Diagnostic::error("lian::x::z", "the other fault");
        let drawn = draw_diagnostics(&[fault, other], &sources, Style::PLAIN);
        prop_assert!(drawn.contains("the message") && drawn.contains("the other fault"));
        prop_assert!(drawn.len() < 400_000, "{}", drawn.len());
    }

    #[test]
    fn an_error_that_points_into_any_text_is_drawn(text in hostile(), spans in spans()) {
        let labels = places(&text, &spans).into_iter().map(|(from, to)| {
            miette::LabeledSpan::new(Some("here".to_owned()), from, to.saturating_sub(from))
        });
        let report = miette::Report::from(miette::MietteDiagnostic::new("the message").with_labels(labels));
        let drawn = draw_error(&report.with_source_code(NamedSource::new("lian.lock", text)), Style::PLAIN);
        prop_assert!(drawn.contains("the message"), "{drawn}");
    }
}

#[test]
fn a_line_of_seventy_thousand_columns_hides_no_other_fault() {
    let mut sources = Sources::default();
    sources.add("a.ncl", format!("{}here\n", " ".repeat(70_000)));
    let far = Diagnostic::error("lian::x::y", "far to the right").label(at("a.ncl", (70_000, 70_004)), "marked");
    let other = Diagnostic::error("lian::x::z", "the other fault");
    let drawn = draw_diagnostics(&[far, other], &sources, Style::PLAIN);
    assert!(drawn.contains("here") && drawn.contains("marked") && drawn.contains("the other fault"), "{drawn}");
}

#[test]
fn a_lock_file_in_one_long_line_is_drawn() {
    let text = format!("{}x", " ".repeat(100_000));
    let label = miette::LabeledSpan::new(Some("here".to_owned()), 100_000, 1);
    let report = miette::Report::from(miette::MietteDiagnostic::new("not a lock file").with_label(label));
    let drawn = draw_error(&report.with_source_code(NamedSource::new("lian.lock", text)), Style::PLAIN);
    assert!(drawn.contains("not a lock file") && drawn.contains("here"), "{drawn}");
}

/// A lock file with two faults at its ends, and a help line.
#[test]
fn an_error_that_points_at_places_far_apart_has_a_snippet_for_each_and_its_help_once_below() {
    let text = "line\n".repeat(3000);
    let labels = [0, 5000, 14_000].map(|at| miette::LabeledSpan::new(Some("here".to_owned()), at, 4));
    let error = miette::MietteDiagnostic::new("the message").with_labels(labels).with_help("the way\nout");
    let report = miette::Report::from(error).with_source_code(NamedSource::new("lian.lock", text));
    let drawn = draw_error(&report, Style::PLAIN);
    assert!(drawn.lines().count() < 40 && drawn.matches("here").count() == 3, "{drawn}");
    assert_eq!((drawn.matches("the message").count(), drawn.matches("the way").count()), (1, 1), "{drawn}");
    assert!(drawn.trim_end().ends_with("out") && drawn.matches("lian.lock").count() == 3, "{drawn}");
}

#[test]
fn lines_between_places_that_are_far_apart_are_not_drawn() {
    let mut sources = Sources::default();
    sources.add("a.ncl", "line\n".repeat(3000));
    let places = [(5000, 5004), (9000, 9004), (9010, 9014)];
    let labels = places.into_iter().map(|place| at("a.ncl", place));
    let fault = labels.fold(Diagnostic::error("lian::x::y", "the message"), |fault, at| fault.label(at, "here"));
    let drawn = draw_diagnostics(&[fault], &sources, Style::PLAIN);
    assert!(drawn.lines().count() < 40 && drawn.matches("here").count() == 3, "{drawn}");
}
