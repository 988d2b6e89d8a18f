//! A catalog: its settings, and its layers with the places of their fields. Not responsible for: whether the layers fit
//! together.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::layer::Layer;
use crate::domain::base::SourceLocation;

/// What `catalog.ncl` at a catalog's root sets for all layers (contract `Catalog`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogSettings {
    /// The first part of every image's name; `lamina` by default.
    #[serde(default = "lamina")]
    pub namespace: String,
    /// `ARG` values for every layer whose Dockerfile declares them. A layer's own value overrides them.
    #[serde(default)]
    pub build_args: BTreeMap<String, String>,
    /// Labels for every image. A layer's own value overrides them.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

fn lamina() -> String {
    "lamina".to_owned()
}

impl Default for CatalogSettings {
    fn default() -> Self {
        Self { namespace: lamina(), build_args: BTreeMap::new(), labels: BTreeMap::new() }
    }
}

/// A layer, and where each of its fields is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    /// The evaluated declaration.
    pub layer: Layer,
    /// The declaring file, as displayed (`catalog/rust/workflow.ncl`). It can be opened from the working directory.
    pub file: PathBuf,
    /// Where a field's value is written: `build_base`, `build_base.image`, `build_inputs.0`, `tools_required.2`,
    /// `tools_provided.1`, `artifact_paths.0`, `context`, `dockerfile`, `target`, `frontend`, `name`, … A field with
    /// its default value has no entry.
    pub places: BTreeMap<String, SourceLocation>,
}

impl Declared {
    /// The place of a field's value, else of the nearest enclosing field, else the start of the file.
    pub fn place(&self, field: &str) -> SourceLocation {
        let mut field = field;
        loop {
            if let Some(place) = self.places.get(field) {
                return place.clone();
            }
            match field.rsplit_once('.') {
                Some((outer, _)) => field = outer,
                None => break,
            }
        }
        SourceLocation { file: self.file.clone(), span: crate::domain::base::Span::default() }
    }

    /// The folder of the declaring file. `context`, `dockerfile` and secret files are relative to it.
    pub fn folder(&self) -> PathBuf {
        self.file.parent().map(PathBuf::from).unwrap_or_default()
    }

    /// The context folder, not yet resolved.
    pub fn context_dir(&self) -> PathBuf {
        self.folder().join(&self.layer.context)
    }

    /// The Dockerfile, not yet resolved.
    pub fn dockerfile_path(&self) -> PathBuf {
        match &self.layer.dockerfile {
            Some(path) => self.folder().join(path),
            None => self.context_dir().join("Dockerfile"),
        }
    }
}

/// A catalog whose files all evaluated. It is not checked yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    /// The folder, as the user named it.
    pub root: PathBuf,
    /// The nearest ancestor with a `.git`, else the catalog's parent; absolute. Contexts stay inside it.
    pub project_root: PathBuf,
    /// The settings for all layers.
    pub settings: CatalogSettings,
    /// The layers, sorted by file.
    pub layers: Vec<Declared>,
}
