//! The settings `providers.hcloud` (`schemas/providers/hcloud.ncl`). Not responsible for: the token, which comes from
//! the environment.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Settings for Hetzner Cloud servers. The token comes from `HCLOUD_TOKEN`, the address from `HCLOUD_ENDPOINT` if
/// set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HcloudSettings {
    /// Image that servers boot: a system image's name, or a snapshot's id if `prepared`.
    pub image: String,
    /// Whether the image already contains buildkitd, buildctl, runc and rsync.
    pub prepared: bool,
    /// Locations to try, in this order.
    pub locations: Vec<String>,
    /// Server types, smallest first.
    pub server_types: Vec<String>,
    /// Labels in addition to our own.
    pub labels: BTreeMap<String, String>,
    /// Whether servers get a public IPv4 address, which costs extra.
    pub ipv4: bool,
    /// BuildKit release, downloaded at first boot if the image is not prepared.
    pub buildkit: BuildkitRelease,
}

impl Default for HcloudSettings {
    fn default() -> Self {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        Self {
            image: "debian-13".to_owned(),
            prepared: false,
            locations: texts(&["fsn1", "nbg1", "hel1"]),
            server_types: texts(&["cax11", "cax21", "cax31", "cax41"]),
            labels: BTreeMap::new(),
            ipv4: true,
            buildkit: BuildkitRelease::default(),
        }
    }
}

/// A release archive with buildkitd, buildctl and runc.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildkitRelease {
    /// URL of the archive, with `{arch}` for `amd64` or `arm64`; BuildKit's official v0.32.2 release if unset.
    pub url: Option<String>,
    /// SHA-256 of the archive, hex, by architecture (`amd64`, `arm64`).
    pub sha256: BTreeMap<String, String>,
}
