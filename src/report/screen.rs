//! The way out: all text for standard output and standard error leaves here, made harmless for a terminal and a CI. Not
//! responsible for: what is said; the moves of the live view (`live`); which colours are nice (`style`).

use std::io::Write;
use std::sync::LazyLock;

use super::style::Style;
use crate::domain::base::harmless;

static OUT_COLOUR: LazyLock<bool> = LazyLock::new(|| Style::stdout().colour);
static ERROR_COLOUR: LazyLock<bool> = LazyLock::new(|| Style::stderr().colour);

/// Writes a result to standard output.
pub fn say(text: &str) -> std::io::Result<()> {
    say_as_it_is(&harmless(text, *OUT_COLOUR))
}

/// Writes what only this program made, or what is harmless by its form (see `json_text`), to standard output.
pub fn say_as_it_is(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Prints to standard error. Ignores errors, unlike `eprint!`: a closed pipe must not stop a build.
pub fn whisper(text: &str) {
    draw(&harmless(text, *ERROR_COLOUR));
}

/// Prints a line of the live view as it is: its parts are harmless, and it moves the cursor.
pub(super) fn draw(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// A line of the live view: harmless, and one line.
pub(super) fn row(line: &str) -> String {
    harmless(&line.replace('\n', "\\n"), *ERROR_COLOUR)
}

/// Lines above the live view.
pub(super) fn above(lines: &str) -> String {
    harmless(lines, *ERROR_COLOUR)
}
