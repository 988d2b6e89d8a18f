//! The schemas and defaults that are the same in every lian-build, compiled into the binary. Not responsible for: the schemas of
//! providers (see `schemas`).

use std::path::{Path, PathBuf};

/// The folder of the embedded files, as the interpreter sees it. Nothing is ever read from disk below it.
pub(super) const FOLDER: &str = "/__lian-build__";

const FILES: &[(&str, &str)] = &[
    ("schemas/workflow.ncl", include_str!("../../../schemas/workflow.ncl")),
    ("schemas/runners.ncl", include_str!("../../../schemas/runners.ncl")),
    ("schemas/cache_policy.ncl", include_str!("../../../schemas/cache_policy.ncl")),
    ("schemas/build_directives.ncl", include_str!("../../../schemas/build_directives.ncl")),
    ("schemas/build_spec.ncl", include_str!("../../../schemas/build_spec.ncl")),
    ("schemas/values.ncl", include_str!("../../../schemas/values.ncl")),
    ("schemas/size_tiers.ncl", include_str!("../../../schemas/size_tiers.ncl")),
    ("defaults/size_tiers.ncl", include_str!("../../../defaults/size_tiers.ncl")),
    ("defaults/size_aliases.ncl", include_str!("../../../defaults/size_aliases.ncl")),
    ("defaults/build_directives.ncl", include_str!("../../../defaults/build_directives.ncl")),
    ("defaults/languages.ncl", include_str!("../../../defaults/languages.ncl")),
];

/// The path by which each is imported, and its text.
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
    "workspace",
    "actor_id",
    "libraries",
    "artifact",
    "cache_policy",
    "runner_override",
];

/// The fields of the closed records inside a workflow, by the field that holds the record or the list of them. Those of the
/// providers are in [`Schemas`](super::schemas::Schemas).
pub(super) const NESTED_FIELDS: &[(&str, &[&str])] = &[
    ("runners", &["context_transfer", "runner_reuse", "max_cost", "max_leases", "boot_timeout_s", "max_lifetime_min"]),
    ("registry", &["address", "plain_http"]),
    ("artifact", &["image", "context", "dockerfile", "target"]),
    ("cache_policy", &["actor", "disposition", "reads", "writes"]),
    ("runner_override", BUILD_SPEC_FIELDS),
];

/// The fields of the contract `BuildSpec`.
pub(super) const BUILD_SPEC_FIELDS: &[&str] = &["language", "runner_type", "cpu", "memory_gb", "time_budget_min"];

/// The text with its closed contracts opened, at the same length so that spans stay correct. Extra fields then no
/// longer hide the other faults of a record; they are searched for separately.
pub(super) fn opened(text: &str) -> String {
    text.replace("# closed", "..      ")
}
