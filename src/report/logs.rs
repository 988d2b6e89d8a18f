//! Copies build logs in pieces, so that memory use does not depend on their size. Not responsible for: finding logs.

use std::io::{BufRead, Read, Write};
use std::path::{Path, PathBuf};

use super::text::clean;
use crate::domain::base::RunId;

/// Largest piece of a log held in memory, in bytes.
const PIECE: u64 = 64 * 1024;

/// Why copying stopped.
#[derive(Debug)]
pub enum LogStop {
    /// The reader closed the output; not a fault.
    Reader,
    /// The log cannot be read.
    Log(PathBuf, std::io::Error),
}

impl From<std::io::Error> for LogStop {
    fn from(_: std::io::Error) -> Self {
        Self::Reader
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

/// Copies a log: unchanged for a program, without escape sequences for a terminal.
pub fn copy_log(out: &mut impl Write, mut log: impl BufRead, path: &Path, terminal: bool) -> Result<(), LogStop> {
    while let Some(bytes) = piece(&mut log, path)? {
        if terminal {
            let line = clean(&String::from_utf8_lossy(&bytes));
            let end = if bytes.ends_with(b"\n") { "\n" } else { "" };
            write!(out, "{line}{end}")?;
        } else {
            out.write_all(&bytes)?;
        }
    }
    Ok(())
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
    serde_json::Value::from(text).to_string()
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

    #[test]
    fn a_terminal_gets_clean_lines_and_a_program_all_bytes() {
        let log = b"one \x1b[2J\ntwo\xff";
        let copied = |terminal| {
            let mut out = Vec::new();
            copy_log(&mut out, &log[..], Path::new("app.log"), terminal).expect("written");
            out
        };
        assert_eq!(copied(false), log);
        assert_eq!(copied(true), "one \ntwo\u{fffd}".as_bytes());
    }
}
