//! Reads `--progress=rawjson`, merges the records of each vertex by digest, and reports what changed. Not responsible
//! for: judging a vertex's error (see `classify`).

use std::collections::{BTreeMap, VecDeque};

use base64::Engine as _;
use serde::Deserialize;

use super::classify::VertexFailure;
use super::tail::{STDERR, Tail};
use crate::domain::model::{BuildEvent, VertexState};

/// How much text that is not JSON is kept.
const TEXT_BYTES: usize = 256 * 1024;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Record {
    vertexes: Vec<VertexRecord>,
    statuses: Vec<StatusRecord>,
    logs: Vec<LogRecord>,
    warnings: Vec<WarningRecord>,
}

#[derive(Deserialize)]
struct VertexRecord {
    digest: String,
    #[serde(default)]
    name: String,
    started: Option<String>,
    completed: Option<String>,
    #[serde(default)]
    cached: bool,
    #[serde(default)]
    error: String,
}

#[derive(Deserialize)]
struct StatusRecord {
    #[serde(default)]
    id: String,
    #[serde(default)]
    vertex: String,
    #[serde(default)]
    current: i64,
    #[serde(default)]
    total: i64,
}

#[derive(Deserialize)]
struct LogRecord {
    #[serde(default)]
    vertex: String,
    /// 1 or 2, as the step wrote it.
    #[serde(default)]
    stream: i64,
    #[serde(default)]
    data: String,
}

#[derive(Deserialize)]
struct WarningRecord {
    /// The text in Base64.
    #[serde(default)]
    short: String,
}

/// The state of a vertex.
#[derive(Default)]
struct Vertex {
    name: String,
    /// When each interval began and ended, in nanoseconds: a vertex may run more than once.
    intervals: BTreeMap<i128, Option<i128>>,
    cached: bool,
    error: Option<String>,
    said: Option<VertexState>,
    tail: Tail,
    /// The bytes at the end of its log that are the beginning of a character.
    cut_character: Vec<u8>,
}

/// The state of a solve, as its progress reports it.
#[derive(Default)]
pub(super) struct Progress {
    vertices: BTreeMap<String, Vertex>,
    order: Vec<String>,
    text: Text,
}

/// The last lines that are not JSON.
#[derive(Default)]
struct Text {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Text {
    fn push(&mut self, line: &str) {
        // Half of it, so that what follows a long line does not push all of it out.
        let from = line.len().saturating_sub(TEXT_BYTES / 2);
        let from = (from..line.len()).find(|at| line.is_char_boundary(*at)).unwrap_or(line.len());
        let line = &line[from..];
        self.lines.push_back(line.to_owned());
        self.bytes += line.len() + 1;
        while self.bytes > TEXT_BYTES {
            self.bytes -= self.lines.pop_front().map_or(self.bytes, |line| line.len() + 1);
        }
    }
}

impl Progress {
    /// Takes one line of standard error and reports what it changed.
    pub(super) fn line(&mut self, line: &str) -> Vec<BuildEvent> {
        let mut events = Vec::new();
        if line.starts_with('{')
            && let Ok(record) = serde_json::from_str::<Record>(line)
        {
            for vertex in record.vertexes {
                events.extend(self.vertex(vertex));
            }
            for status in record.statuses {
                events.push(BuildEvent::Progress {
                    vertex: status.vertex,
                    id: status.id,
                    current: u64::try_from(status.current).unwrap_or(0),
                    total: u64::try_from(status.total).ok().filter(|total| *total > 0),
                });
            }
            events.extend(record.logs.into_iter().filter_map(|log| self.log(log)));
            events.extend(record.warnings.into_iter().map(|warning| {
                let short = base64::engine::general_purpose::STANDARD.decode(&warning.short).unwrap_or_default();
                BuildEvent::Warning { message: String::from_utf8_lossy(&short).trim().to_owned() }
            }));
        // logrus writes its own messages (`time="…" level=warning …`) between the records.
        } else if !line.starts_with("time=\"") && !line.trim().is_empty() {
            self.text.push(line);
        }
        events
    }

    fn entry(&mut self, digest: &str) -> &mut Vertex {
        if !self.vertices.contains_key(digest) {
            self.order.push(digest.to_owned());
        }
        self.vertices.entry(digest.to_owned()).or_default()
    }

    fn vertex(&mut self, record: VertexRecord) -> Option<BuildEvent> {
        let vertex = self.entry(&record.digest);
        if !record.name.is_empty() {
            vertex.name = record.name;
        }
        vertex.cached |= record.cached;
        if let Some(started) = nanoseconds(record.started.as_deref()) {
            let end = vertex.intervals.entry(started).or_default();
            *end = nanoseconds(record.completed.as_deref()).or(*end);
        }
        if !record.error.is_empty() {
            vertex.error = Some(record.error);
        }
        let running = vertex.intervals.values().any(Option::is_none);
        let state = match (&vertex.error, running) {
            (Some(_), _) => VertexState::Failed,
            _ if vertex.intervals.is_empty() && !vertex.cached => return None,
            (None, true) => VertexState::Started,
            (None, false) if vertex.cached => VertexState::Cached,
            (None, false) => VertexState::Completed,
        };
        if vertex.said == Some(state) {
            return None;
        }
        vertex.said = Some(state);
        let ended = state != VertexState::Started;
        Some(BuildEvent::Vertex {
            vertex: record.digest,
            name: vertex.name.clone(),
            state,
            duration_ms: ended.then(|| vertex.duration_ms()),
            error: if state == VertexState::Failed { vertex.error.clone() } else { None },
        })
    }

    fn log(&mut self, log: LogRecord) -> Option<BuildEvent> {
        let bytes = base64::engine::general_purpose::STANDARD.decode(&log.data).ok()?;
        let vertex = self.entry(&log.vertex);
        vertex.tail.push(&bytes, log.stream == STDERR);
        // BuildKit cuts logs at any byte.
        let mut bytes = [std::mem::take(&mut vertex.cut_character), bytes].concat();
        vertex.cut_character = bytes.split_off(bytes.len() - cut_bytes(&bytes));
        Some(BuildEvent::Log { vertex: log.vertex, text: String::from_utf8_lossy(&bytes).into_owned() })
    }

    /// How many steps of the Dockerfile ran or were cached, and how many of them were cached.
    pub(super) fn steps(&self) -> (u32, u32) {
        let steps = self.vertices.values().filter(|vertex| is_step(&vertex.name) && vertex.said.is_some());
        let (mut all, mut cached) = (0, 0);
        for vertex in steps {
            all += 1;
            cached += u32::from(vertex.cached);
        }
        (all, cached)
    }

    /// The vertices with an error, in the order in which they first appeared.
    pub(super) fn failures(&self) -> Vec<VertexFailure> {
        let failed = self.order.iter().filter_map(|digest| self.vertices.get(digest));
        failed
            .filter_map(|vertex| {
                let error = vertex.error.clone()?;
                let (name, tail) = (vertex.name.clone(), &vertex.tail);
                let (log_tail, causes, clipped) = (tail.lines(), tail.causes(), tail.clipped());
                Some(VertexFailure { name, error, log_tail, causes, clipped, tells_kill: tail.tells_kill() })
            })
            .collect()
    }

    /// The last of the text that is not JSON: what buildctl writes after the records.
    pub(super) fn text(&self) -> String {
        self.text.lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

impl Vertex {
    fn duration_ms(&self) -> u64 {
        let total: i128 = self.intervals.iter().map(|(start, end)| end.map_or(0, |end| (end - start).max(0))).sum();
        u64::try_from(total / 1_000_000).unwrap_or(0)
    }
}

/// How many bytes at the end are the beginning of a UTF-8 character.
fn cut_bytes(bytes: &[u8]) -> usize {
    let last = bytes.iter().rev().take(3).position(|byte| byte & 0xc0 != 0x80);
    let Some(begun) = last.map(|behind| behind + 1) else { return 0 };
    let whole = match bytes[bytes.len() - begun] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    if begun < whole { begun } else { 0 }
}

/// An RFC 3339 time as nanoseconds since the epoch.
fn nanoseconds(text: Option<&str>) -> Option<i128> {
    text?.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_nanosecond)
}

/// Whether a vertex is a step of the Dockerfile: `[4/6] RUN …` or `[stage 4/6] RUN …`, but not `[internal] …` or
/// `exporting …`.
pub(super) fn is_step(name: &str) -> bool {
    let Some((head, _)) = name.strip_prefix('[').and_then(|rest| rest.split_once("] ")) else { return false };
    let fraction = head.rsplit(' ').find(|part| !part.is_empty()).unwrap_or("");
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    fraction.split_once('/').is_some_and(|(at, of)| number(at) && number(of))
}

#[cfg(test)]
#[path = "progress_bytes_tests.rs"]
mod bytes_tests;
#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
