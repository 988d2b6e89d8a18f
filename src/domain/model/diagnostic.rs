//! A fault in the user's files, as data that processes exchange. Not responsible for: showing it (see `report`).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::base::{LayerName, SourceLocation, shown};

/// How bad a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The catalog cannot be built.
    Error,
    /// Something suspicious, which fails only with `--strict`.
    Warning,
}

/// A marked place in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// The marked place.
    pub place: SourceLocation,
    /// The text beside the mark.
    pub text: Option<String>,
}

/// One fault: what is wrong, where, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// A stable code, `lian::module::cause`.
    pub code: Cow<'static, str>,
    /// Whether it is an error or a warning.
    pub severity: Severity,
    /// What is wrong, in one sentence without a full stop. It is one line, whatever it quotes.
    pub message: String,
    /// The next action.
    pub help: Option<String>,
    /// The layer it belongs to, if known.
    pub layer: Option<LayerName>,
    /// The marked places; the first one is where the fault is.
    pub labels: Vec<Label>,
    /// Further remarks, each a paragraph.
    pub notes: Vec<String>,
}

impl Diagnostic {
    /// An error with this code and message.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code: Cow::Borrowed(code),
            severity: Severity::Error,
            message: shown(&message.into()),
            help: None,
            layer: None,
            labels: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// A warning with this code and message.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// Sets the help line.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Sets the layer.
    #[must_use]
    pub fn layer(mut self, layer: &LayerName) -> Self {
        self.layer = Some(layer.clone());
        self
    }

    /// Adds a marked place. An empty text adds the mark alone.
    #[must_use]
    pub fn label(mut self, place: SourceLocation, text: impl Into<String>) -> Self {
        let text = text.into();
        self.labels.push(Label { place, text: (!text.is_empty()).then(|| shown(&text)) });
        self
    }

    /// Adds a remark.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Whether it is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// The texts that diagnostics point into, by the path in their places.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources(BTreeMap<PathBuf, Arc<str>>);

impl Sources {
    /// Adds a text. If the path has a text already, that one stays.
    pub fn add(&mut self, file: impl Into<PathBuf>, text: impl Into<Arc<str>>) {
        self.0.entry(file.into()).or_insert_with(|| text.into());
    }

    /// The text of a file.
    pub fn get(&self, file: &Path) -> Option<&Arc<str>> {
        self.0.get(file)
    }

    /// Adds all texts of another collection.
    pub fn merge(&mut self, other: Self) {
        for (file, text) in other.0 {
            self.add(file, text);
        }
    }
}
