//! Writes build logs, one file per layer, each line labelled with its step. Not responsible for: interpreting them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::domain::base::LayerName;
use crate::domain::model::{BuildEvent, Event, EventBody, VertexState};
use crate::domain::ports::Sink;
use crate::system::confined::{Folder, is_name};

/// Maximum bytes to buffer of an incomplete line, to bound memory.
const MAX_HELD: usize = 16 * 1024;

/// The sink that writes a run's build logs, for `lian-build logs`.
pub struct StepLogs {
    state: Arc<Folder>,
    /// The logs' folder, below the state folder.
    folder: PathBuf,
    /// Open logs of the layers being built.
    open: BTreeMap<LayerName, LayerLog<BufWriter<File>>>,
}

impl StepLogs {
    /// Writes to this folder below the state folder, created where it is missing.
    pub(super) fn new(state: Arc<Folder>, folder: PathBuf) -> Self {
        Self { state, folder, open: BTreeMap::new() }
    }

    fn add(&mut self, layer: &LayerName, progress: &BuildEvent) {
        if !self.open.contains_key(layer) {
            match open(&self.state, &self.folder, layer.as_str()) {
                Ok(file) => self.open.insert(layer.clone(), LayerLog::new(file)),
                Err(error) => return tracing::debug!("no log of {layer}: {error}"),
            };
        }
        if let Some(log) = self.open.get_mut(layer) {
            log.add(progress);
        }
    }
}

impl Sink for StepLogs {
    fn name(&self) -> &'static str {
        "logs"
    }

    fn event(&mut self, event: &Event) {
        match &event.body {
            EventBody::StepProgress { layer, progress } => self.add(layer, progress),
            EventBody::StepFinished(end) => drop(self.open.remove(&end.layer)),
            EventBody::EventsDropped { count } => self.open.values_mut().for_each(|log| log.gap(*count)),
            _ => {}
        }
    }

    fn close(&mut self, _: Duration) {
        self.open.clear();
    }
}

/// Opens a layer's log for appending; creates its folder.
fn open(state: &Folder, folder: &Path, layer: &str) -> std::io::Result<BufWriter<File>> {
    if !is_name(layer) {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "its name is no part of a path"));
    }
    state.make_folder(folder)?;
    Ok(BufWriter::new(state.append(path(folder, layer))?))
}

/// The log of one layer in one run.
struct LayerLog<W: Write> {
    file: W,
    names: BTreeMap<String, String>,
    /// The incomplete last line of each vertex.
    partial: BTreeMap<String, String>,
    /// The vertex whose current line is partly written, because it was too long to buffer.
    unfinished: Option<String>,
}

impl<W: Write> LayerLog<W> {
    fn new(file: W) -> Self {
        Self { file, names: BTreeMap::new(), partial: BTreeMap::new(), unfinished: None }
    }

    /// Adds a build event. Write errors are ignored, so that the build continues.
    fn add(&mut self, event: &BuildEvent) {
        let _ = match event {
            BuildEvent::Vertex { vertex, name, state, error, .. } => {
                self.vertex(vertex, name, *state, error.as_deref())
            }
            BuildEvent::Log { vertex, text } => self.text(vertex, text),
            BuildEvent::Warning { message } => self.line(&format!("warning: {message}")),
            BuildEvent::Progress { .. } | BuildEvent::Memory { .. } => Ok(()),
        };
    }

    /// Notes that events are missing here.
    fn gap(&mut self, count: u64) {
        let _ = self.line(&format!("… {count} reports of this run are missing here: the disk could not keep up"));
    }

    fn vertex(&mut self, vertex: &str, name: &str, state: VertexState, error: Option<&str>) -> std::io::Result<()> {
        let known = self.names.insert(vertex.to_owned(), name.to_owned()).is_some();
        match state {
            VertexState::Started if known => Ok(()),
            VertexState::Started => self.line(name),
            VertexState::Cached => self.line(&format!("{name} (cached)")),
            VertexState::Completed => self.rest(vertex),
            VertexState::Failed => {
                self.rest(vertex)?;
                self.line(&format!("{name}: {}", error.unwrap_or("failed")))?;
                self.file.flush()
            }
        }
    }

    fn text(&mut self, vertex: &str, text: &str) -> std::io::Result<()> {
        let mut pending = self.partial.remove(vertex).unwrap_or_default();
        pending.push_str(text);
        for piece in pending.split_inclusive('\n') {
            if piece.ends_with('\n') || piece.len() > MAX_HELD {
                self.piece(vertex, piece)?;
            } else {
                self.partial.insert(vertex.to_owned(), piece.to_owned());
            }
        }
        self.file.flush()
    }

    /// Writes a line, or a part of one, labelled with its step. A further part continues the line.
    fn piece(&mut self, vertex: &str, piece: &str) -> std::io::Result<()> {
        let goes_on = self.unfinished.as_deref() == Some(vertex);
        if !goes_on {
            self.end_unfinished()?;
            let step = step_of(self.names.get(vertex).map_or("", String::as_str));
            write!(self.file, "{step}")?;
        }
        if piece.ends_with('\n') {
            self.unfinished = None;
            writeln!(self.file, "{}", piece.trim_end_matches(['\n', '\r']))
        } else {
            self.unfinished = Some(vertex.to_owned());
            write!(self.file, "{piece}")
        }
    }

    /// Writes a line without a step.
    fn line(&mut self, line: &str) -> std::io::Result<()> {
        self.end_unfinished()?;
        writeln!(self.file, "{line}")
    }

    fn end_unfinished(&mut self) -> std::io::Result<()> {
        match self.unfinished.take() {
            Some(_) => writeln!(self.file),
            None => Ok(()),
        }
    }

    /// Writes the rest of a vertex's output that does not end with a newline.
    fn rest(&mut self, vertex: &str) -> std::io::Result<()> {
        match self.partial.remove(vertex) {
            Some(line) if self.names.contains_key(vertex) => self.piece(vertex, &(line + "\n")),
            _ if self.unfinished.as_deref() == Some(vertex) => self.end_unfinished(),
            _ => Ok(()),
        }
    }
}

/// The log of a layer in a run's folder.
pub fn path(folder: &Path, layer: &str) -> PathBuf {
    folder.join(format!("{layer}.log"))
}

/// `[4/6] ` from `[4/6] RUN make`; two spaces if the step has no number.
fn step_of(name: &str) -> String {
    match name.split_once("] ") {
        Some((step, _)) if step.starts_with('[') => format!("{step}] "),
        _ => "  ".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::base::{RunId, Timestamp};
    use crate::system::confined;

    fn vertex(vertex: &str, name: &str, state: VertexState) -> BuildEvent {
        BuildEvent::Vertex { vertex: vertex.into(), name: name.into(), state, duration_ms: None, error: None }
    }

    fn text(vertex: &str, text: &str) -> BuildEvent {
        BuildEvent::Log { vertex: vertex.into(), text: text.into() }
    }

    #[test]
    fn lines_stand_under_their_step_and_halves_are_joined() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut log = StepLogs::new(Arc::new(confined::open(dir.path()).expect("a folder")), "logs".into());
        let make = |state| vertex("v", "[2/3] RUN make", state);
        for progress in [
            make(VertexState::Started),
            text("v", "one\ntw"),
            text("v", "o\n"),
            text("v", "end"),
            make(VertexState::Completed),
        ] {
            let body = EventBody::StepProgress { layer: "app".into(), progress };
            log.event(&Event { at: Timestamp(1), run: RunId::from("r"), body });
        }
        log.close(Duration::ZERO);
        let written = std::fs::read_to_string(path(&dir.path().join("logs"), "app")).expect("a log");
        assert_eq!(written, "[2/3] RUN make\n[2/3] one\n[2/3] two\n[2/3] end\n");
    }

    #[test]
    fn a_line_without_an_end_is_written_whole_and_never_held() {
        let mut written = Vec::new();
        let mut log = LayerLog::new(&mut written);
        log.add(&vertex("v", "[1/2] RUN yes", VertexState::Started));
        let flood = "x".repeat(1000);
        for _ in 0..5000 {
            log.add(&text("v", &flood));
            assert!(log.partial.values().map(String::len).sum::<usize>() <= MAX_HELD);
        }
        log.add(&text("v", "end\r\nnext\n"));
        let line = format!("[1/2] {}end", flood.repeat(5000));
        let written = String::from_utf8(written).expect("text");
        let lines: Vec<&str> = written.lines().collect();
        assert!(lines[1] == line, "the line is not what was written");
        assert_eq!((lines.len(), lines[0], lines[2]), (3, "[1/2] RUN yes", "[1/2] next"));
    }

    #[test]
    fn what_comes_between_two_parts_of_a_line_stands_on_a_line_of_its_own() {
        let mut written = Vec::new();
        let mut log = LayerLog::new(&mut written);
        log.add(&vertex("v", "[1/2] RUN yes", VertexState::Started));
        log.add(&vertex("w", "[2/2] RUN make", VertexState::Started));
        let long = "x".repeat(MAX_HELD + 1);
        log.add(&text("v", &long));
        log.add(&text("w", "made\n"));
        log.gap(3);
        log.add(&text("v", "y\n"));
        let between = "… 3 reports of this run are missing here: the disk could not keep up";
        let expected = format!("[1/2] RUN yes\n[2/2] RUN make\n[1/2] {long}\n[2/2] made\n{between}\n[1/2] y\n");
        assert_eq!(String::from_utf8(written).expect("text"), expected);
    }
}
