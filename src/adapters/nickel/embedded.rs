//! The schemas and defaults that every catalog can import, compiled into the binary.

use std::path::{Path, PathBuf};

/// The folder of the embedded files, as the interpreter sees it. Nothing is ever read from disk below it.
pub(super) const FOLDER: &str = "/__lian-build__";

const FILES: &[(&str, &str)] = &[
    ("schemas/workflow.ncl", include_str!("../../../schemas/workflow.ncl")),
    ("schemas/runners.ncl", include_str!("../../../schemas/runners.ncl")),
    ("schemas/build_spec.ncl", include_str!("../../../schemas/build_spec.ncl")),
    ("schemas/size_tiers.ncl", include_str!("../../../schemas/size_tiers.ncl")),
    ("defaults/size_tiers.ncl", include_str!("../../../defaults/size_tiers.ncl")),
    ("defaults/languages.ncl", include_str!("../../../defaults/languages.ncl")),
];

/// The embedded files: the path by which they are imported, and their text.
pub fn embedded() -> &'static [(&'static str, &'static str)] {
    FILES
}

/// The path of an embedded file, as the interpreter sees it.
pub(super) fn path_of(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

/// The fields of the contract `Layer`.
pub(super) const LAYER_FIELDS: &[&str] = &[
    "name",
    "kind",
    "build_base",
    "build_inputs",
    "tools_provided",
    "tools_required",
    "artifact_paths",
    "context",
    "dockerfile",
    "target",
    "build_args",
    "secrets",
    "ssh",
    "platforms",
    "labels",
    "language",
    "frontend",
];

/// The fields of the contract `Catalog`.
pub(super) const CATALOG_FIELDS: &[&str] = &["namespace", "build_args", "labels"];

/// The fields of the contract `Workflow`.
pub(super) const WORKFLOW_FIELDS: &[&str] = &[
    "catalog",
    "targets",
    "parallel",
    "compute_provider",
    "providers",
    "runners",
    "registry_provider",
    "registry",
    "base_images",
    "ca_bundle",
    "build_args",
    "set",
];

/// The fields of the closed records inside a workflow, by the field that holds the record or the list of records.
pub(super) const NESTED_FIELDS: &[(&str, &[&str])] = &[
    ("runners", &["context_transfer", "runner_reuse", "max_cost", "max_leases", "boot_timeout_s", "max_lifetime_min"]),
    ("providers", &["docker_local", "ssh", "hcloud", "proxmox", "vm_pool"]),
    ("docker_local", &["image", "sizes", "network"]),
    ("sizes", &["cpu", "memory_gb"]),
    ("ssh", &["hosts"]),
    ("hosts", &["address", "port", "user", "host_key", "identity", "cpu", "memory_gb", "platform"]),
    ("hcloud", &["image", "prepared", "locations", "server_types", "labels", "ipv4", "buildkit"]),
    ("buildkit", &["url", "sha256"]),
    ("proxmox", &["endpoint", "node", "template", "ids", "pool", "fingerprint", "ca", "full_clone", "platform"]),
    ("vm_pool", &["endpoint", "workspace"]),
    ("registry", &["address", "plain_http"]),
];

/// The fields of the contract `BuildSpec`.
pub(super) const BUILD_SPEC_FIELDS: &[&str] = &["language", "runner_type", "cpu", "memory_gb", "time_budget_min"];

/// The text with its closed contracts opened, at the same length so that spans stay correct. Extra fields then no
/// longer hide the other faults of a record; they are searched for separately.
pub(super) fn opened(text: &str) -> String {
    text.replace("# closed", "..      ")
}
