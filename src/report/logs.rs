//! Copies build logs in pieces, so that memory use does not depend on their size. Not responsible for: finding logs.

use std::io::{BufRead, Read, Write};
use std::path::{Path, PathBuf};

use crate::domain::base::{RunId, harmless, harmless_json, output_line};

/// Largest piece of a log held in memory, in bytes.
const PIECE: u64 = 64 * 1024;
/// How far before the end of a part of a line its seam may be, in bytes.
const SEAM: usize = 256;

/// Why copying stopped.
#[derive(Debug)]
pub enum LogStop {
    /// The reader closed the output; not a fault.
    Reader,
    /// The output cannot be written.
    Output(std::io::Error),
    /// The log cannot be read.
    Log(PathBuf, std::io::Error),
}

impl From<std::io::Error> for LogStop {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe { Self::Reader } else { Self::Output(error) }
    }
}

/// The next piece of a log, at most one line with its newline; `None` at the end.
fn piece(log: &mut impl BufRead, path: &Path) -> Result<Option<Vec<u8>>, LogStop> {
    let mut bytes = Vec::new();
    let read = log.by_ref().take(PIECE).read_until(b'\n', &mut bytes);
    match read {
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some(bytes)),
        Err(source) => Err(LogStop::Log(path.to_owned(), source)),
    }
}

/// How a log is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogForm {
    /// Byte for byte.
    AsWritten,
    /// Line by line, made harmless.
    Shown {
        /// Whether its colours are kept.
        colour: bool,
    },
}

/// Copies a log.
pub fn copy_log(out: &mut impl Write, mut log: impl BufRead, path: &Path, form: LogForm) -> Result<(), LogStop> {
    let mut held = Vec::new();
    while let Some(bytes) = piece(&mut log, path)? {
        let LogForm::Shown { colour } = form else {
            out.write_all(&bytes)?;
            continue;
        };
        held.extend(bytes);
        let rest = if held.ends_with(b"\n") { Vec::new() } else { held.split_off(seam(&held)) };
        write_shown(out, &std::mem::replace(&mut held, rest), colour)?;
    }
    if let LogForm::Shown { colour } = form {
        write_shown(out, &held, colour)?;
    }
    Ok(())
}

fn write_shown(out: &mut impl Write, bytes: &[u8], colour: bool) -> std::io::Result<()> {
    let text = String::from_utf8_lossy(bytes);
    let (label, line) = text.split_at(label(&text));
    let end = if bytes.ends_with(b"\n") { "\n" } else { "" };
    write!(out, "{}{end}", harmless(&(output_line(label, colour) + &output_line(line, colour)), colour))
}

/// The length of the step that stands before a line, `[2/3] ` or two blanks: a line that is rewritten keeps it.
fn label(line: &str) -> usize {
    match line.find("] ") {
        Some(at) if line.starts_with('[') && !line[..at].contains('\r') => at + 2,
        _ if line.starts_with("  ") => 2,
        _ => 0,
    }
}

/// Where a part of a long line may be cut, near its end: between two characters, and not within what a CI would read as
/// a command if it were whole again.
fn seam(part: &[u8]) -> usize {
    let from = part.len().saturating_sub(SEAM).max(1);
    let in_command = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'#' | b'-' | b'\x1b');
    let is_begin = |at: usize| part.get(at).is_some_and(|byte| byte & 0xc0 != 0x80);
    let found = (from..part.len()).find(|at| is_begin(*at) && !in_command(part[at - 1]));
    found.or_else(|| (from..part.len()).find(|at| is_begin(*at))).unwrap_or(part.len())
}

/// Writes `{"schema":1,"run":…,"logs":[{"layer":…,"log":…}]}` while reading the logs.
pub fn logs_json<'a, L: BufRead, P: AsRef<Path> + 'a>(
    out: &mut impl Write,
    run: &RunId,
    logs: impl Iterator<Item = (String, L, P)>,
) -> Result<(), LogStop> {
    write!(out, "{{\"schema\":1,\"run\":{},\"logs\":[", quoted(run.as_str()))?;
    for (index, (layer, mut log, path)) in logs.enumerate() {
        let comma = if index > 0 { "," } else { "" };
        write!(out, "{comma}{{\"layer\":{},\"log\":\"", quoted(&layer))?;
        let mut rest = Vec::new();
        while let Some(bytes) = piece(&mut log, path.as_ref())? {
            rest.extend(bytes);
            let whole = whole_characters(&rest);
            let tail = rest.split_off(whole);
            let text = quoted(&String::from_utf8_lossy(&rest));
            out.write_all(&text.as_bytes()[1..text.len() - 1])?;
            rest = tail;
        }
        let text = quoted(&String::from_utf8_lossy(&rest));
        out.write_all(&text.as_bytes()[1..text.len() - 1])?;
        write!(out, "\"}}")?;
    }
    writeln!(out, "]}}")?;
    Ok(())
}

fn quoted(text: &str) -> String {
    harmless_json(&serde_json::Value::from(text).to_string())
}

/// Length of the prefix that ends with a complete UTF-8 character; a piece may end within one.
fn whole_characters(bytes: &[u8]) -> usize {
    let start = bytes.len().saturating_sub(3);
    let last = (start..bytes.len()).rev().find(|at| bytes[*at] >= 0xc0);
    match last {
        Some(at) if std::str::from_utf8(&bytes[at..]).is_err_and(|error| error.error_len().is_none()) => at,
        _ => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(log: &[u8]) -> serde_json::Value {
        let mut out = Vec::new();
        let logs = ["app", "base"].map(|name| (name.to_owned(), log, Path::new("app.log")));
        logs_json(&mut out, &RunId::from("7f3"), logs.into_iter()).expect("written");
        serde_json::from_slice(&out).expect("JSON")
    }

    #[test]
    fn json_is_whole_whatever_the_log_holds() {
        // A character across two pieces, quotes, escapes, invalid UTF-8, no newline at the end.
        let mut log = vec![b'x'; usize::try_from(PIECE).expect("small") - 1];
        log.extend("漢\"\\\u{1b}[0m\n".as_bytes());
        log.extend(b"\xff half \xe6");
        let text = String::from_utf8_lossy(&log).into_owned();
        let value = json(&log);
        assert_eq!(value["logs"][0], serde_json::json!({ "layer": "app", "log": text }));
        assert_eq!(value["logs"][1]["layer"], "base");
        assert_eq!(json(b"")["logs"][0]["log"], "");
    }

    fn copied(log: &[u8], form: LogForm) -> String {
        let mut out = Vec::new();
        copy_log(&mut out, log, Path::new("app.log"), form).expect("written");
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn whoever_reads_gets_harmless_lines_and_who_asks_for_it_all_bytes() {
        let log = b"one \x1b[2J\x1b[31mred\n::error::two\xff\r\n[1/2] 10%\r20%\n end";
        assert_eq!(copied(log, LogForm::AsWritten), String::from_utf8_lossy(log));
        let shown = "one red\n\\::error::two\u{fffd}\n[1/2] 20%\n end";
        assert_eq!(copied(log, LogForm::Shown { colour: false }), shown);
        let shown = shown.replacen("red", "\u{1b}[31mred\u{1b}[0m", 1);
        assert_eq!(copied(log, LogForm::Shown { colour: true }), shown);
    }

    #[test]
    fn a_command_is_none_wherever_a_long_line_is_cut() {
        let piece = usize::try_from(PIECE).expect("small");
        for shift in 0..SEAM + 24 {
            let log = format!("{}漢##vso[task.x]y##[error]z", "漢".repeat((piece - shift) / 3));
            let text = copied(log.as_bytes(), LogForm::Shown { colour: false });
            assert_eq!(text, log.replace("##", "#\\#"), "{shift}");
            let words = format!("{}##[error]", "x".repeat(piece - shift));
            let text = copied(words.as_bytes(), LogForm::Shown { colour: false });
            assert_eq!(text, words.replace("##", "#\\#"), "{shift}");
        }
    }
}
