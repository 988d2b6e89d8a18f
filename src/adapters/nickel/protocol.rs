//! What the evaluating child is asked and what it answers: one JSON request on stdin, one JSON line an event on stdout.
//! Not responsible for: doing either.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::model::{BuildSpec, CatalogSettings, Declared, Diagnostic, Workflow};

/// Which contract a file is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Contract {
    Layer,
    Catalog,
    Workflow,
    BuildSpec,
}

impl Contract {
    /// The schema that it is in.
    pub(super) fn schema(self) -> &'static str {
        match self {
            Self::BuildSpec => "schemas/build_spec.ncl",
            _ => "schemas/workflow.ncl",
        }
    }

    /// Its name there.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Layer => "Layer",
            Self::Catalog => "Catalog",
            Self::Workflow => "Workflow",
            Self::BuildSpec => "BuildSpec",
        }
    }

    /// Its fields.
    pub(super) fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Layer => super::embedded::LAYER_FIELDS,
            Self::Catalog => super::embedded::CATALOG_FIELDS,
            Self::Workflow => super::embedded::WORKFLOW_FIELDS,
            Self::BuildSpec => super::embedded::BUILD_SPEC_FIELDS,
        }
    }
}

/// One file to evaluate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Item {
    /// Its number among all items of a load.
    pub index: usize,
    /// What it is held to.
    pub contract: Contract,
    /// The file; none where only settings make the value.
    pub file: Option<PathBuf>,
    /// The name of its folder: the layer's name where the file does not say one.
    pub folder: String,
}

/// An override, `--set PATH=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Setting {
    /// The layer's name; none for the catalog's settings.
    pub layer: Option<String>,
    /// The field, and what is below it.
    pub path: Vec<String>,
    /// The value, as given.
    pub value: String,
}

/// A folder, and how it is shown to people.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Shown {
    /// Absolute.
    pub actual: PathBuf,
    /// As the user would write it.
    pub shown: PathBuf,
}

impl Shown {
    /// How a path is shown: by the first folder that holds it. `./a` is `a`, as other rooms show what lies beside it.
    pub(super) fn path(folders: &[Self], path: &Path) -> PathBuf {
        let held = |folder: &Self| path.strip_prefix(&folder.actual).ok().map(|rest| folder.shown.join(rest));
        let shown = folders.iter().find_map(held).unwrap_or_else(|| path.to_owned());
        let tidied: PathBuf = shown.components().filter(|part| *part != Component::CurDir).collect();
        if tidied.as_os_str().is_empty() { shown } else { tidied }
    }
}

/// What one child is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Request {
    /// The files, in order.
    pub items: Vec<Item>,
    /// Overrides.
    pub settings: Vec<Setting>,
    /// Imports stay below these folders (canonical).
    pub import_scope: Vec<PathBuf>,
    /// How paths are shown.
    pub shown: Vec<Shown>,
    /// Address space, bytes.
    pub memory_bytes: u64,
    /// Processor time for each file, seconds.
    pub cpu_seconds: u64,
    /// The interpreter's stack, bytes.
    pub stack_bytes: usize,
}

/// An evaluated file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Value {
    Layer(Box<Declared>),
    Catalog(CatalogSettings),
    Workflow(Box<Workflow>),
    BuildSpec(BuildSpec),
}

/// What came of one file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Finished {
    /// Which item.
    pub index: usize,
    /// Its value, where it evaluated.
    pub value: Option<Value>,
    /// The layer's name, as far as it can be told.
    pub name: Option<String>,
    /// What is wrong with it.
    pub diagnostics: Vec<Diagnostic>,
    /// Texts that were not sent before.
    pub files: Vec<(PathBuf, Arc<str>)>,
}

/// A line of the child's answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    /// Work on this item begins: whatever happens until its end is its fault.
    Started(usize),
    /// The item is done.
    Finished(Box<Finished>),
}
