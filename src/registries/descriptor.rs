//! Manifests, indexes and configs as far as a layout needs them read. Refuses: what it does not need; unknown fields
//! are left alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::Digest;

/// The media type of an image's manifest.
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
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
    pub(super) fn is(&self, platform: &str) -> bool {
        let mut parts = platform.split('/');
        parts.next() == Some(&self.os) && parts.next() == Some(&self.architecture)
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
}

/// An image's config.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct ConfigFile {
    #[serde(default)]
    pub(super) os: Option<String>,
    #[serde(default)]
    pub(super) architecture: Option<String>,
    #[serde(default)]
    pub(super) config: Settings,
}

/// What an image says of itself.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Settings {
    #[serde(rename = "Labels", default)]
    pub(super) labels: Option<BTreeMap<String, String>>,
}
