//! A layer's declaration, as `schemas/workflow.ncl` defines it. Not responsible for: defaults (the schema sets them)
//! and checks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::base::{LayerName, Platform};

/// The purpose of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Compilers and build tools.
    Toolchain,
    /// Compiled dependencies of an application.
    Deps,
    /// Tools that other layers copy from it.
    Utility,
    /// An application to ship.
    App,
}

/// What a layer is based on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Base {
    /// Another layer of the catalog.
    Layer(LayerName),
    /// An external image, as a Dockerfile's `FROM` would name it.
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
    /// The command whose output holds the version; by default `<name> --version` if a version is required.
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

/// A build secret. Its id is part of the layer; where its value comes from is not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Secret {
    /// The id that `RUN --mount=type=secret,id=…` names.
    pub id: String,
    /// The environment variable of lian-build that holds the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// The file that holds the value, relative to the declaring file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Whether the build must not start without its value.
    #[serde(default)]
    pub required: bool,
}

/// One layer of a catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Its name, unique in the catalog: lower-case letters, digits and `-`.
    pub name: LayerName,
    /// Its purpose.
    pub kind: Kind,
    /// What it is based on.
    pub build_base: Base,
    /// Other layers whose images its Dockerfile copies from.
    #[serde(default)]
    pub build_inputs: Vec<LayerName>,
    /// Binaries that must be in the image after the build.
    #[serde(default)]
    pub tools_provided: Vec<Tool>,
    /// Binaries that its own build needs. An ancestor must provide each of them.
    #[serde(default)]
    pub tools_required: Vec<String>,
    /// Absolute paths that must exist in the image and are promoted as `<layer>-artifacts`.
    #[serde(default)]
    pub artifact_paths: Vec<String>,
    /// The build context, relative to the declaring file.
    #[serde(default = "here")]
    pub context: String,
    /// The Dockerfile, relative to the declaring file; by default `Dockerfile` in the context.
    #[serde(default)]
    pub dockerfile: Option<String>,
    /// The stage to build; by default the last one.
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
    /// The platforms to build for, such as `linux/arm64`; the builder's own if empty.
    #[serde(default)]
    pub platforms: Vec<Platform>,
    /// Labels of the image.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The main language, which determines the runner's default size.
    #[serde(default)]
    pub language: Option<String>,
    /// A Dockerfile frontend image to use instead of BuildKit's built-in one.
    #[serde(default)]
    pub frontend: Option<String>,
}

fn here() -> String {
    ".".to_owned()
}

impl Layer {
    /// The names of its parents in the catalog: the base first, then the inputs, without repeats.
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
