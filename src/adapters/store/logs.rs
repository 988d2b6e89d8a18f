//! What builds write, one file a layer, each line under its step. Not responsible for: interpreting it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use crate::domain::model::{BuildEvent, VertexState};

/// The log of one layer in one run.
pub struct LayerLog {
    file: BufWriter<File>,
    names: BTreeMap<String, String>,
    partial: BTreeMap<String, String>,
}

impl LayerLog {
    /// Opens the file for appending, making its folder.
    pub fn open(folder: &Path, layer: &str) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let file = File::options().create(true).append(true).open(path(folder, layer))?;
        Ok(Self { file: BufWriter::new(file), names: BTreeMap::new(), partial: BTreeMap::new() })
    }

    /// Adds what a build reports. A failed write is the disk's matter: the build goes on.
    pub fn add(&mut self, event: &BuildEvent) {
        let _ = match event {
            BuildEvent::Vertex { vertex, name, state, error, .. } => {
                self.vertex(vertex, name, *state, error.as_deref())
            }
            BuildEvent::Log { vertex, text } => self.text(vertex, text),
            BuildEvent::Warning { message } => writeln!(self.file, "warning: {message}"),
            BuildEvent::Progress { .. } | BuildEvent::Memory { .. } => Ok(()),
        };
    }

    fn vertex(&mut self, vertex: &str, name: &str, state: VertexState, error: Option<&str>) -> std::io::Result<()> {
        let known = self.names.insert(vertex.to_owned(), name.to_owned()).is_some();
        match state {
            VertexState::Started if known => Ok(()),
            VertexState::Started => writeln!(self.file, "{name}"),
            VertexState::Cached => writeln!(self.file, "{name} (cached)"),
            VertexState::Completed => self.rest(vertex),
            VertexState::Failed => {
                self.rest(vertex)?;
                writeln!(self.file, "{name}: {}", error.unwrap_or("failed"))?;
                self.file.flush()
            }
        }
    }

    fn text(&mut self, vertex: &str, text: &str) -> std::io::Result<()> {
        let step = step_of(self.names.get(vertex).map_or("", String::as_str)).to_owned();
        let mut pending = self.partial.remove(vertex).unwrap_or_default();
        pending.push_str(text);
        let mut lines = pending.split_inclusive('\n').peekable();
        while let Some(line) = lines.next() {
            if lines.peek().is_none() && !line.ends_with('\n') {
                self.partial.insert(vertex.to_owned(), line.to_owned());
                break;
            }
            writeln!(self.file, "{step}{}", line.trim_end_matches(['\n', '\r']))?;
        }
        self.file.flush()
    }

    fn rest(&mut self, vertex: &str) -> std::io::Result<()> {
        match self.partial.remove(vertex) {
            Some(_) if !self.names.contains_key(vertex) => Ok(()),
            Some(line) => writeln!(self.file, "{}{line}", step_of(&self.names[vertex])),
            None => Ok(()),
        }
    }
}

/// The log of a layer in a run's folder.
pub fn path(folder: &Path, layer: &str) -> PathBuf {
    folder.join(format!("{layer}.log"))
}

/// `[4/6] ` of `[4/6] RUN make`, two blanks where the step has no number.
fn step_of(name: &str) -> String {
    match name.split_once("] ") {
        Some((step, _)) if step.starts_with('[') => format!("{step}] "),
        _ => "  ".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stand_under_their_step_and_halves_are_joined() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut log = LayerLog::open(dir.path(), "app").expect("a file");
        let vertex = |state| BuildEvent::Vertex {
            vertex: "v".into(),
            name: "[2/3] RUN make".into(),
            state,
            duration_ms: None,
            error: None,
        };
        let text = |text: &str| BuildEvent::Log { vertex: "v".into(), text: text.into() };
        for event in
            [vertex(VertexState::Started), text("one\ntw"), text("o\n"), text("end"), vertex(VertexState::Completed)]
        {
            log.add(&event);
        }
        drop(log);
        let written = std::fs::read_to_string(path(dir.path(), "app")).expect("a log");
        assert_eq!(written, "[2/3] RUN make\n[2/3] one\n[2/3] two\n[2/3] end\n");
    }
}
