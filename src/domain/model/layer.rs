//! A layer's declaration, as `schemas/workflow.ncl` has it. Not responsible for: defaults (the schema gives them) and checks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::base::{LayerName, Platform};

/// What a layer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Compilers and build tools.
    Toolchain,
    /// Compiled dependencies of an application.
    Deps,
    /// Tools that others copy from.
    Utility,
    /// What is shipped.
    App,
}

/// What a layer stands on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Base {
    /// Another layer of the catalog.
    Layer(LayerName),
    /// An image from outside, as a Dockerfile's `FROM` would name it.
    External {
        /// The reference, e.g. `docker.io/library/debian:trixie-slim`.
        image: String,
    },
}

/// A binary that must be in the image after the build.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "ToolForm")]
pub struct Tool {
    /// The binary's name, looked up along the image's PATH.
    pub name: String,
    /// A semver requirement on the version that the probe prints, e.g. `>=1.80`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The command whose output holds the version; `<name> --version` where a version is asked for and none is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ToolForm {
    Name(String),
    Record { name: String, version: Option<String>, probe: Option<String> },
}

impl From<ToolForm> for Tool {
    fn from(form: ToolForm) -> Self {
        match form {
            ToolForm::Name(name) => Self { name, version: None, probe: None },
            ToolForm::Record { name, version, probe } => Self { name, version, probe },
        }
    }
}

/// A build secret: its id is part of the layer, its source is the caller's business.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Secret {
    /// The id that `RUN --mount=type=secret,id=…` names.
    pub id: String,
    /// The environment variable of lian-build that holds the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// The file that holds the value; relative to the declaring file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Whether the build must not start without it.
    #[serde(default)]
    pub required: bool,
}

/// One layer of a catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Unique in the catalog; lower case, digits, `-`.
    pub name: LayerName,
    /// What it is for.
    pub kind: Kind,
    /// What it stands on.
    pub build_base: Base,
    /// Other layers whose images its Dockerfile copies from.
    #[serde(default)]
    pub build_inputs: Vec<LayerName>,
    /// Binaries that must exist after the build.
    #[serde(default)]
    pub tools_provided: Vec<Tool>,
    /// Binaries that its own build needs: an ancestor provides each.
    #[serde(default)]
    pub tools_required: Vec<String>,
    /// Absolute paths that must exist in the image and are promoted as `<layer>-artifacts`.
    #[serde(default)]
    pub artifact_paths: Vec<String>,
    /// The build context, relative to the declaring file.
    #[serde(default = "here")]
    pub context: String,
    /// The Dockerfile, relative to the declaring file; `Dockerfile` in the context where unset.
    #[serde(default)]
    pub dockerfile: Option<String>,
    /// The stage to build; the last one where unset.
    #[serde(default)]
    pub target: Option<String>,
    /// `ARG` values.
    #[serde(default)]
    pub build_args: BTreeMap<String, String>,
    /// Build secrets.
    #[serde(default)]
    pub secrets: Vec<Secret>,
    /// Ids of ssh mounts (`default` or a name).
    #[serde(default)]
    pub ssh: Vec<String>,
    /// Platforms such as `linux/arm64`; the builder's own where empty.
    #[serde(default)]
    pub platforms: Vec<Platform>,
    /// Labels of the image.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The main language, for the runner's default size.
    #[serde(default)]
    pub language: Option<String>,
    /// A Dockerfile frontend image instead of BuildKit's built-in one.
    #[serde(default)]
    pub frontend: Option<String>,
}

fn here() -> String {
    ".".to_owned()
}

impl Layer {
    /// The names of its parents within the catalog: the base first, then the inputs, without repeats.
    pub fn parents(&self) -> Vec<&LayerName> {
        let base = match &self.build_base {
            Base::Layer(name) => Some(name),
            Base::External { .. } => None,
        };
        let mut parents: Vec<&LayerName> = Vec::new();
        for name in base.into_iter().chain(&self.build_inputs) {
            if !parents.contains(&name) {
                parents.push(name);
            }
        }
        parents
    }
}
