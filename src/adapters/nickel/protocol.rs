//! The messages between lian-build and the evaluating child: one JSON request on stdin, one JSON line for each event on
//! stdout.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::base::SourceLocation;
use crate::domain::model::{BuildSpec, CatalogSettings, Declared, Diagnostic, Workflow};

/// The contract that a file is checked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Contract {
    Layer,
    Catalog,
    Workflow,
    Directives,
    BuildSpec,
}

impl Contract {
    /// The schema file that defines it.
    pub(super) fn schema(self) -> &'static str {
        match self {
            Self::BuildSpec => "schemas/build_spec.ncl",
            Self::Directives => "schemas/build_directives.ncl",
            _ => "schemas/workflow.ncl",
        }
    }

    /// Its name in that file.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Layer => "Layer",
            Self::Catalog => "Catalog",
            Self::Workflow => "Workflow",
            Self::Directives => "BuildDirectives",
            Self::BuildSpec => "BuildSpec",
        }
    }

    /// Its fields.
    pub(super) fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Layer => super::embedded::LAYER_FIELDS,
            Self::Catalog => super::embedded::CATALOG_FIELDS,
            Self::Workflow | Self::Directives => super::embedded::WORKFLOW_FIELDS,
            Self::BuildSpec => super::embedded::BUILD_SPEC_FIELDS,
        }
    }
}

/// One file to evaluate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Item {
    /// Its number among all items of a load.
    pub index: usize,
    /// The contract that it is checked against.
    pub contract: Contract,
    /// The file; `None` if the value consists only of settings.
    pub file: Option<PathBuf>,
    /// The name of its folder: the layer's name if the file does not give one.
    pub folder: String,
}

/// An override, `--set PATH=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Setting {
    /// The layer's name; `None` for the catalog's settings.
    pub layer: Option<String>,
    /// The field, and the keys below it.
    pub path: Vec<String>,
    /// The value, as given.
    pub value: String,
}

/// A folder, and how it is shown to people.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Shown {
    /// Absolute.
    pub actual: PathBuf,
    /// The path as the user would write it.
    pub shown: PathBuf,
}

impl Shown {
    /// How a path is shown: relative to the first folder that contains it. `./a` is shown as `a`, as everywhere else.
    pub(super) fn path(folders: &[Self], path: &Path) -> PathBuf {
        let held = |folder: &Self| path.strip_prefix(&folder.actual).ok().map(|rest| folder.shown.join(rest));
        let shown = folders.iter().find_map(held).unwrap_or_else(|| path.to_owned());
        let tidied: PathBuf = shown.components().filter(|part| *part != Component::CurDir).collect();
        if tidied.as_os_str().is_empty() { shown } else { tidied }
    }
}

/// The work for one child.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct BatchRequest {
    /// The files, in order.
    pub items: Vec<Item>,
    /// Overrides.
    pub settings: Vec<Setting>,
    /// What stands before the text of directives: the names that are bound around them.
    #[serde(default)]
    pub bindings: String,
    /// The canonical folders that imports must stay below.
    pub import_scope: Vec<PathBuf>,
    /// How paths are shown.
    pub shown: Vec<Shown>,
    /// What it may write to, in bytes, its stack included.
    pub memory_bytes: u64,
    /// Processor time for each file, in seconds.
    pub cpu_seconds: u64,
    /// The interpreter's stack, in bytes.
    pub stack_bytes: usize,
}

/// An evaluated file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Value {
    Layer(Box<Declared>),
    Catalog(CatalogSettings),
    Workflow(Box<Workflow>, BTreeMap<String, SourceLocation>),
    BuildSpec(BuildSpec),
}

/// The result of one file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Finished {
    /// The number of the item.
    pub index: usize,
    /// Its value, if it evaluated.
    pub value: Option<Value>,
    /// The layer's name, if it is known.
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
    /// Work on this item begins. Whatever happens until it ends is this item's fault.
    Started(usize),
    /// The item is done.
    Finished(Box<Finished>),
}
