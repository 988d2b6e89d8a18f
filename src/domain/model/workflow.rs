//! The settings for running a catalog (`workflows/*.ncl`, contract `Workflow`). Not responsible for: command-line
//! flags.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::directives::{Artifact, CachePolicy};
use super::provider::{ProviderName, ProviderSettings, RegistrySettings, RunnerSettings};
use super::size::BuildSpec;

/// Where images are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegistryProvider {
    /// An OCI image layout, a folder on this machine.
    #[default]
    OciLayout,
    /// An OCI registry, by address.
    Registry,
}

/// A workflow: a catalog, its targets, concurrency and providers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Workflow {
    /// The catalog; default: `catalog` in the working directory. Paths in the file are relative to its folder; here
    /// they are resolved.
    #[serde(default)]
    pub catalog: Option<PathBuf>,
    /// The layers to build with their ancestors; empty means all.
    #[serde(default)]
    pub targets: Vec<String>,
    /// Concurrent layers; 0 lets lian-build choose.
    #[serde(default)]
    pub parallel: usize,
    /// Where layers are built.
    #[serde(default)]
    pub compute_provider: ProviderName,
    /// Each provider's own settings.
    #[serde(default)]
    pub providers: ProviderSettings,
    /// How runners are used.
    #[serde(default)]
    pub runners: RunnerSettings,
    /// Where images are stored.
    #[serde(default)]
    pub registry_provider: RegistryProvider,
    /// Which registry.
    #[serde(default)]
    pub registry: Option<RegistrySettings>,
    /// Substitutes for external bases: reference to `oci-layout:DIR`.
    #[serde(default)]
    pub base_images: BTreeMap<String, String>,
    /// A CA bundle handed to every build as the secret `ca`.
    #[serde(default)]
    pub ca_bundle: Option<PathBuf>,
    /// `ARG` values for every layer whose Dockerfile declares them; they override the catalog's.
    #[serde(default)]
    pub build_args: BTreeMap<String, String>,
    /// Overrides of catalog fields, as `--set PATH=VALUE` gives them.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// What is built together and shares its caches. With it a workflow is directives.
    #[serde(default)]
    pub workspace: Option<String>,
    /// Which person or agent asks, for a session.
    #[serde(default)]
    pub actor_id: Option<String>,
    /// The workspaces whose published layers may be used; default: `lamina`.
    #[serde(default)]
    pub libraries: Option<Vec<String>>,
    /// The image to build where there is no catalog.
    #[serde(default)]
    pub artifact: Option<Artifact>,
    /// Who asks, and what is read and written of the caches.
    #[serde(default)]
    pub cache_policy: Option<CachePolicy>,
    /// The requirements for runners; they override any `.build-spec.ncl`.
    #[serde(default)]
    pub runner_override: Option<BuildSpec>,
}
