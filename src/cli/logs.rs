//! `lian-build logs`: what the builds of a run wrote, handed on piece by piece whatever its size. Not responsible for: reading a log
//! whole.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal as _, Read, Write};
use std::path::Path;

use super::args::{Format, Global, ProjectFlags};
use super::exit::{Exit, Failure, Outcome};
use crate::adapters::store::{Store, StoreError};
use crate::app::project::Project;
use crate::domain::base::RunId;
use crate::report::{self, Style};

/// The longest piece of a log that is held in memory.
const PIECE: u64 = 64 * 1024;

/// Shows the logs of a run.
pub fn logs(global: &Global, project: &ProjectFlags, run: &str, layer: Option<&str>) -> Outcome {
    let unknown = || StoreError::UnknownRun { wanted: run.to_owned() };
    let store = Project::of_folder(&project.project).read_store()?.ok_or_else(unknown)?;
    let run = store.find(run)?.id;
    let mut logs = Vec::new();
    for (name, path) in store.logs(&run, layer)? {
        let file = File::open(&path).map_err(|source| StoreError::Io { what: "read", path: path.clone(), source })?;
        logs.push((name, path, BufReader::new(file)));
    }
    let terminal = std::io::stdout().is_terminal();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    if global.format == Format::Json {
        let written = write_json(&mut out, &run, logs.into_iter().map(|(name, path, log)| (name, log, path)));
        return ended(written.and_then(|()| out.flush().map_err(Stop::from)));
    }
    let style = Style::stdout();
    if logs.is_empty() && !global.quiet {
        let last = last_with_logs(&store)?;
        let last = last.map_or(String::new(), |last| format!(": `lian-build logs {last}` is the last that did"));
        let _ = writeln!(out, "run {run} built nothing{last}");
    }
    for (name, path, log) in logs {
        let head = if layer.is_none() { format!("{}\n", style.strong(&name)) } else { String::new() };
        let written = out.write_all(head.as_bytes()).map_err(Stop::from);
        let written = written.and_then(|()| copy(&mut out, log, &path, terminal));
        if written.is_err() {
            return ended(written);
        }
    }
    ended(out.flush().map_err(Stop::from))
}

/// The newest run that built anything, and whose logs are still kept.
fn last_with_logs(store: &Store) -> Result<Option<RunId>, StoreError> {
    for run in store.runs(usize::MAX)? {
        if !store.logs(&run.id, None)?.is_empty() {
            return Ok(Some(run.id));
        }
    }
    Ok(None)
}

/// Why copying stopped.
#[derive(Debug)]
enum Stop {
    /// Nobody reads any more: no fault.
    Reader,
    /// The log cannot be read.
    Log(StoreError),
}

impl From<std::io::Error> for Stop {
    fn from(_: std::io::Error) -> Self {
        Self::Reader
    }
}

fn ended(written: Result<(), Stop>) -> Outcome {
    match written {
        Ok(()) | Err(Stop::Reader) => Ok(Exit::Done),
        Err(Stop::Log(error)) => Err(Failure::from(error)),
    }
}

/// The next piece of a log, at most a line, with its newline; none at the end.
fn piece(log: &mut impl BufRead, path: &Path) -> Result<Option<Vec<u8>>, Stop> {
    let mut bytes = Vec::new();
    let read = log.by_ref().take(PIECE).read_until(b'\n', &mut bytes);
    match read {
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some(bytes)),
        Err(source) => Err(Stop::Log(StoreError::Io { what: "read", path: path.to_owned(), source })),
    }
}

/// Copies a log: as it is for a program, without escape sequences for a terminal.
fn copy(out: &mut impl Write, mut log: impl BufRead, path: &Path, terminal: bool) -> Result<(), Stop> {
    while let Some(bytes) = piece(&mut log, path)? {
        if terminal {
            let line = report::clean(&String::from_utf8_lossy(&bytes));
            let end = if bytes.ends_with(b"\n") { "\n" } else { "" };
            write!(out, "{line}{end}")?;
        } else {
            out.write_all(&bytes)?;
        }
    }
    Ok(())
}

/// `{"schema":1,"run":…,"logs":[{"layer":…,"log":…}]}`, written as it is read.
fn write_json<'a, L: BufRead, P: AsRef<Path> + 'a>(
    out: &mut impl Write,
    run: &RunId,
    logs: impl Iterator<Item = (String, L, P)>,
) -> Result<(), Stop> {
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

/// How many bytes end with a whole character: a piece may end within one.
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
        write_json(&mut out, &RunId::from("7f3"), logs.into_iter()).expect("written");
        serde_json::from_slice(&out).expect("JSON")
    }

    #[test]
    fn json_is_whole_whatever_the_log_holds() {
        // A character on the border of two pieces, quotes, escapes, bytes that are no text, no newline at the end.
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
    fn the_last_run_with_logs_is_known_where_there_is_one() {
        use crate::domain::base::Timestamp;
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path()).expect("a store");
        assert_eq!(last_with_logs(&store).expect("readable"), None);
        let mut built = Vec::new();
        for (at, builds) in [(1, true), (2, true), (3, false)] {
            let id = store.begin("apply", Timestamp(at)).expect("a run").id().clone();
            if builds {
                let folder = dir.path().join("logs").join(id.as_str());
                std::fs::create_dir_all(&folder).expect("writable");
                std::fs::write(folder.join("app.log"), "text").expect("writable");
                built.push(id);
            }
        }
        assert_eq!(last_with_logs(&store).expect("readable"), built.pop());
    }

    #[test]
    fn a_terminal_gets_clean_lines_and_a_program_all_bytes() {
        let log = b"one \x1b[2J\ntwo\xff";
        let copied = |terminal| {
            let mut out = Vec::new();
            copy(&mut out, &log[..], Path::new("app.log"), terminal).expect("written");
            out
        };
        assert_eq!(copied(false), log);
        assert_eq!(copied(true), "one \ntwo\u{fffd}".as_bytes());
    }
}
