//! Shows what directives would do. Not responsible for: finding it out.

use serde_json::{Value, json};

use super::style::Style;
use crate::domain::base::shown;
use crate::domain::model::{Actor, Disposition, Size};

/// What directives would do.
#[derive(Debug, Clone)]
pub struct Explained {
    /// Who asks.
    pub actor: Actor,
    /// What is built together and shares its caches.
    pub workspace: String,
    /// Namespaces and repositories that are read.
    pub reads: Vec<String>,
    /// Those that are written.
    pub writes: Vec<String>,
    /// What becomes of a session's cache.
    pub disposition: Option<Disposition>,
    /// The runner's size.
    pub size: Size,
    /// Where it is built.
    pub provider: String,
    /// The tags that move.
    pub tags: Vec<String>,
}

impl Explained {
    /// For `--format json`.
    pub fn json(&self) -> Value {
        json!({
            "schema": 1,
            "actor": self.actor,
            "workspace": self.workspace,
            "reads": self.reads,
            "writes": self.writes,
            "disposition": self.disposition,
            "size": self.size,
            "provider": self.provider,
            "tags": self.tags,
        })
    }

    /// A line for each.
    pub fn lines(&self, style: Style) -> String {
        let list = |names: &[String]| if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
        let size = &self.size;
        let disposition = self.disposition.map(|kept| match kept {
            Disposition::Export => "written back after a success",
            Disposition::Discard => "thrown away",
            Disposition::Rollback => "set back after a failure",
        });
        let rows = [
            ("actor", self.actor.to_string()),
            ("workspace", self.workspace.clone()),
            ("reads", list(&self.reads)),
            ("writes", list(&self.writes)),
            ("cache", disposition.unwrap_or_default().to_owned()),
            (
                "on",
                format!("{}: {} CPUs, {} GB, {} min", self.provider, size.cpu, size.memory_gb, size.time_budget_min),
            ),
            ("tags", list(&self.tags)),
        ];
        let told = rows.iter().filter(|(_, text)| !text.is_empty());
        told.map(|(name, text)| format!("{} {}\n", style.dim(&format!("{name:<9}")), shown(text))).collect()
    }
}
