//! Writes results to standard output and everything else to standard error. Not responsible for: formatting (see
//! `report`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::args::{Format, Global};
use super::exit::{Exit, Failure};
use crate::app::planning::survey::Survey;
use crate::app::{Error, ErrorKind};
use crate::domain::model::Diagnostic;
use crate::report::{self, Style};

/// Whether a result or an event could not be written.
static LOST: AtomicBool = AtomicBool::new(false);

/// Writes a result. A closed pipe is not an error, because its reader has seen enough; a full disk is.
pub fn out(text: &str) {
    written(report::say(text));
}

/// Writes what only this program made: a script, or JSON, whose form makes it harmless.
pub fn own(text: &str) {
    // After an event that was not taken, no other will be.
    if !lost() {
        written(report::say_as_it_is(text));
    }
}

fn written(result: std::io::Result<()>) {
    if let Err(error) = result
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        lose_result(&error);
    }
}

/// Remembers that a result is lost, and says so once.
pub fn lose_result(why: &std::io::Error) {
    if !LOST.swap(true, Ordering::Relaxed) {
        eprintln!("lian::cli::output: the result cannot be written: {why}");
    }
}

/// Writes an event of a run. Whoever reads events needs the last one, so a closed pipe is an error, too. The run goes on
/// without its reader: nothing more is written, since it would follow half a line.
pub fn event(line: &str) {
    if lost() {
        return;
    }
    if let Err(error) = report::say_at_once(line) {
        lose_events(&error.to_string());
    }
}

/// Remembers that events are lost, and says so once.
pub fn lose_events(why: &str) {
    if !LOST.swap(true, Ordering::Relaxed) {
        eprintln!("lian::cli::output: the events cannot be written: {why}");
        eprintln!("  help: the run goes on without them; `lian-build runs` and `lian-build logs` say what came of it");
    }
}

/// Whether a result or an event could not be written.
pub fn lost() -> bool {
    LOST.load(Ordering::Relaxed)
}

/// Writes a JSON result.
pub fn json(value: &serde_json::Value) {
    own(&(report::json_text(value) + "\n"));
}

/// Shows a command's failure and returns its exit code.
pub fn failure(format: Format, failure: Failure) -> Exit {
    let style = Style::stderr();
    match (format, &failure.what) {
        (Format::Json, ErrorKind::Report(error)) => json(&report::error_json(error)),
        (Format::Json, ErrorKind::Files(faults, sources)) => json(&report::check_json(0, faults, sources, false)),
        (_, ErrorKind::Report(error)) => eprint!("{}", report::draw_error(error, style)),
        (_, ErrorKind::Files(faults, sources)) => eprint!("{}", report::draw_diagnostics(faults, sources, style)),
    }
    failure.exit
}

/// Shows why a catalog cannot be planned.
pub fn unsound(global: &Global, survey: &Survey, started: Instant) -> Exit {
    let layers = survey.count();
    if global.format == Format::Json {
        json(&report::check_json(layers, &survey.diagnostics, &survey.sources, false));
    } else {
        let style = Style::stderr();
        eprint!("{}", report::draw_diagnostics(&survey.diagnostics, &survey.sources, style));
        eprintln!("{}", report::summary_line(layers, &survey.diagnostics, started.elapsed(), style));
    }
    Exit::Failed
}

/// Shows the warnings of a valid catalog (text output only).
pub fn warnings(global: &Global, survey: &Survey) {
    let warnings: Vec<Diagnostic> =
        survey.diagnostics.iter().filter(|diagnostic| !diagnostic.is_error()).cloned().collect();
    if global.format == Format::Text && !global.quiet && !warnings.is_empty() {
        eprint!("{}", report::draw_diagnostics(&warnings, &survey.sources, Style::stderr()));
    }
}

/// An I/O error that does not concern a user's file.
pub fn io(error: std::io::Error) -> Failure {
    Error::machine(error).into()
}
