//! Manifests, indexes and configs as far as a layout needs them read. Not responsible for: what it does not need; unknown fields
//! are left alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::base::{self, Digest};
use crate::domain::model::{KEY_LABEL, LayerKey};
use crate::domain::ports::ImageConfig;

/// The media type of an image's manifest.
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of an index of manifests.
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The type of the artifact that holds a layer's key parts, and of the one blob in it.
pub(super) const PARTS: &str = "application/vnd.lian-build.key-parts.v1+json";
/// The media type of an empty config.
pub(super) const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// What an empty config holds.
pub(super) const EMPTY_BYTES: &[u8] = b"{}";

/// A reference to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Descriptor {
    /// What it is.
    #[serde(rename = "mediaType")]
    pub(super) media_type: String,
    /// Its content.
    pub(super) digest: Digest,
    /// Its bytes.
    pub(super) size: u64,
    /// Which platform it is for, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<Platform>,
}

/// Where an image runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Platform {
    /// `linux`.
    pub(super) os: String,
    /// `amd64`.
    pub(super) architecture: String,
}

impl Platform {
    /// Whether this is the platform `os/architecture[/variant]`.
    pub(super) fn is(&self, platform: &base::Platform) -> bool {
        platform.os() == self.os && platform.architecture() == self.architecture
    }
}

/// A manifest (config and layers), an index (manifests) or an artifact (with a subject).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    #[serde(rename = "schemaVersion")]
    pub(super) schema_version: u32,
    #[serde(rename = "mediaType", default, skip_serializing_if = "Option::is_none")]
    pub(super) media_type: Option<String>,
    #[serde(rename = "artifactType", default, skip_serializing_if = "Option::is_none")]
    pub(super) artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) config: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) manifests: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<Descriptor>,
}

impl Manifest {
    /// The blobs that it names, apart from further manifests and its subject.
    pub(super) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.config.iter().chain(&self.layers)
    }

    /// The image of an index: the one for a platform, else the first that is one (an attestation is for the platform
    /// `unknown/unknown`).
    pub(super) fn image(&self, platform: Option<&base::Platform>) -> Option<&Descriptor> {
        let is_image = |child: &&Descriptor| child.platform.as_ref().is_none_or(|platform| platform.os != "unknown");
        let fits = |child: &&Descriptor| {
            platform.is_some_and(|wanted| child.platform.as_ref().is_some_and(|platform| platform.is(wanted)))
        };
        self.manifests.iter().find(fits).or_else(|| self.manifests.iter().find(is_image))
    }

    /// Its media type; what its fields say where it does not name one.
    pub(super) fn kind(&self) -> &str {
        let implied = if self.config.is_some() { MANIFEST } else { INDEX };
        self.media_type.as_deref().unwrap_or(implied)
    }
}

/// An image's config.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct ConfigFile {
    #[serde(default)]
    pub(super) os: Option<String>,
    #[serde(default)]
    pub(super) architecture: Option<String>,
    #[serde(default)]
    pub(super) config: ConfigBlob,
}

/// What an image says of itself.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct ConfigBlob {
    #[serde(rename = "Labels", default)]
    pub(super) labels: Option<BTreeMap<String, String>>,
    #[serde(rename = "Env", default)]
    pub(super) env: Option<Vec<String>>,
    #[serde(rename = "OnBuild", default)]
    pub(super) on_build: Option<Vec<String>>,
}

impl ConfigFile {
    /// The full layer key in its label.
    pub(super) fn key(&self) -> Option<LayerKey> {
        self.config.labels.as_ref()?.get(KEY_LABEL)?.parse().ok().map(LayerKey)
    }

    /// What it is for, `os/architecture`.
    pub(super) fn platform(&self) -> Option<base::Platform> {
        Some(base::Platform::of(self.os.as_ref()?, self.architecture.as_ref()?, ""))
    }

    /// What it says of the processes that run in it.
    pub(super) fn processes(self) -> ImageConfig {
        let ConfigBlob { env, on_build, .. } = self.config;
        ImageConfig { env: env.unwrap_or_default(), on_build: on_build.unwrap_or_default() }
    }
}
