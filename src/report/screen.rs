//! The way out: all text for standard output and standard error leaves here, made harmless for a terminal and a CI.
//! Nobody waits for whoever reads standard error: work must not stand still for it, and may hold a rented machine or a
//! lock. Not responsible for: what is said; the moves of the live view (`live`); which colours are nice (`style`).

use std::io::Write;
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use super::outlet::Outlet;
use super::style::Style;
use crate::domain::base::harmless;
use crate::system::Patient;

static OUT_COLOUR: LazyLock<bool> = LazyLock::new(|| Style::stdout().colour);
static ERROR_COLOUR: LazyLock<bool> = LazyLock::new(|| Style::stderr().colour);
static ERRORS: OnceLock<Outlet> = OnceLock::new();
/// Whether both streams are one: a terminal, or the pipe of `2>&1`.
static ARE_ONE: LazyLock<bool> = LazyLock::new(|| {
    let streams = (rustix::fs::fstat(rustix::stdio::stdout()), rustix::fs::fstat(rustix::stdio::stderr()));
    matches!(streams, (Ok(out), Ok(errors)) if (out.st_dev, out.st_ino) == (errors.st_dev, errors.st_ino))
});
/// How long a result waits for what was said before it on another stream, while nobody reads that.
const ORDER: Duration = Duration::from_secs(1);

/// Writes a result to standard output, after what was said before it.
pub fn say(text: &str) -> std::io::Result<()> {
    say_as_it_is(&harmless(text, *OUT_COLOUR))
}

/// Writes what only this program made, or what is harmless by its form (see `json_text`), in the same way.
pub fn say_as_it_is(text: &str) -> std::io::Result<()> {
    if let Some(errors) = ERRORS.get() {
        errors.wait_in_order(if *ARE_ONE { None } else { Some(ORDER) });
    }
    say_at_once(text)
}

/// Writes to standard output whatever becomes of standard error.
pub fn say_at_once(text: &str) -> std::io::Result<()> {
    results(|out| out.write_all(text.as_bytes()))
}

/// Lends standard output to whoever writes a long result piece by piece.
pub fn results<T>(write: impl FnOnce(&mut dyn Write) -> T) -> T {
    // The lock keeps the pieces of others out. The library's buffer stays empty.
    let _alone = std::io::stdout().lock();
    write(&mut Patient(rustix::stdio::stdout()))
}

/// An outlet to standard output, for lines that nobody may wait for.
pub fn result_lines() -> Outlet {
    Outlet::start(Patient(rustix::stdio::stdout()), gap)
}

/// Prints to standard error. Waits for nobody, and ignores errors: a closed pipe must not stop a build.
pub fn whisper(text: &str) {
    draw(&harmless(text, *ERROR_COLOUR));
}

/// Ends standard error: waits until all is written, or until its reader has taken nothing for as long as `patience`.
pub fn end_errors(patience: Option<Duration>) {
    if let Some(errors) = ERRORS.get() {
        errors.end(patience);
    }
}

/// Prints a line of the live view as it is: its parts are harmless, and it moves the cursor.
pub(super) fn draw(text: &str) {
    errors().push(text);
}

/// Whether what was printed to standard error still waits for its reader.
pub(super) fn is_behind() -> bool {
    ERRORS.get().is_some_and(Outlet::is_behind)
}

/// Waits for the reader of standard error, if much waits for it: for a sink, whose thread may be held up.
pub(super) fn wait_for_room() {
    if let Some(errors) = ERRORS.get() {
        errors.wait_for_room();
    }
}

fn errors() -> &'static Outlet {
    ERRORS.get_or_init(|| Outlet::start(Patient(rustix::stdio::stderr()), gap))
}

/// Tells of what was left out, in the look of the log.
fn gap(lines: u64) {
    tracing::warn!(lines, "nobody read on here: lines are left out");
}

/// A line of the live view: harmless, and one line.
pub(super) fn row(line: &str) -> String {
    harmless(&line.replace('\n', "\\n"), *ERROR_COLOUR)
}

/// Lines above the live view.
pub(super) fn above(lines: &str) -> String {
    harmless(lines, *ERROR_COLOUR)
}
