//! The schemas and the model agree, and the defaults keep to their contracts.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{catalog, drawn, evaluator, load};
use lian_build::adapters::nickel::embedded;
use lian_build::adapters::providers::builtin;
use lian_build::domain::sizing::{LANGUAGES, OTHER_LANGUAGES, TIERS};

/// Every field of each contract, said once, none left at its default.
const LAYER: &str = r#"{
  name = "full",
  kind = 'deps,
  build_base = { image = "docker.io/library/debian:trixie-slim" },
  build_inputs = ["rust"],
  tools_provided = [{ name = "cargo", version = ">=1.80", probe = "cargo --version" }],
  tools_required = ["cc"],
  artifact_paths = ["/usr/bin/x"],
  context = "ctx",
  dockerfile = "Dockerfile.x",
  target = "final",
  build_args = { A = "1" },
  secrets = [{ id = "ca", env = "CA", required = true }, { id = "key", file = "key.pem" }],
  ssh = ["default"],
  platforms = ["linux/arm64/v8"],
  labels = { "org.x" = "y" },
  language = "rust",
  frontend = "docker.io/docker/dockerfile:1.7",
}"#;
const CATALOG: &str = r#"{ namespace = "mine/own", build_args = { A = "1" }, labels = { "org.x" = "y" } }"#;
pub(super) const WORKFLOW: &str = r#"{
  catalog = "../catalog",
  targets = ["full"],
  parallel = 3,
  compute_provider = 'local,
  providers = {
    local.network = 'host,
    docker_local.image = "moby/buildkit:v1",
    ssh.hosts = [{ address = "h", host_key = "ssh-ed25519 AAAA", identity = "key", cpu = 2, memory_gb = 4, platform = "linux/amd64" }],
    hcloud = { image = "debian-12", server_types = ["cax11"], locations = ["fsn1"], labels = { a = "b" }, ipv4 = false },
    proxmox = { endpoint = "https://p:8006", node = "n", template = 9000, ids = [9100, 9199], ca = "ca.pem" },
    vm_pool = { endpoint = "http://localhost:1", workspace = "w" },
  },
  runners = { context_transfer = 'session, runner_reuse = 'per_build, max_cost = 1.5, max_leases = 3, boot_timeout_s = 60, max_lifetime_min = 30 },
  registry_provider = 'registry,
  registry = { address = "r.example:5000/a", plain_http = true },
  base_images = { "debian:trixie-slim" = "oci-layout:../.lian/base", absolute = "oci-layout:/base" },
  ca_bundle = "ca.pem",
  build_args = { A = "1" },
  set = { "full.kind" = "app" },
  workspace = "shop",
  actor_id = "jpl",
  libraries = ["lamina"],
  artifact = { image = "team/shop", context = "..", dockerfile = "Dockerfile", target = "final" },
  cache_policy = { actor = 'human, disposition = 'rollback, reads = ["ci/shop"], writes = [] },
  runner_override = { cpu = 2 },
}"#;

/// The fields of a contract in the schema's text.
fn fields_of(contract: &str) -> BTreeSet<String> {
    let (_, schema) = embedded().iter().find(|(name, _)| *name == "schemas/workflow.ncl").expect("the schema");
    let (_, body) = schema.split_once(&format!("\n  {contract}\n")).expect("the contract");
    let body = body.split_once("# closed").expect("a closed contract").0;
    body.lines()
        .filter(|line| line.starts_with("      ") && line.as_bytes().get(6).is_some_and(u8::is_ascii_lowercase))
        .map(|line| line.trim().to_owned())
        .collect()
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().expect("a record").keys().cloned().collect()
}

fn nothing_is_default(value: &Value) {
    for (field, value) in value.as_object().expect("a record") {
        let empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty) || value == &json!({});
        assert!(!empty, "{field} is {value}");
    }
}

#[test]
fn schemas_and_model_have_the_same_fields() {
    let project = catalog(&[
        ("catalog/full/workflow.ncl", LAYER),
        ("catalog/catalog.ncl", CATALOG),
        ("workflows/w.ncl", WORKFLOW),
    ]);
    let loaded = load(project.path());
    assert_eq!(drawn(&loaded.diagnostics, &loaded.sources), "");
    let workflow = evaluator().workflow(&project.path().join("workflows/w.ncl"), &[]).expect("a workflow");
    assert_eq!(drawn(&workflow.diagnostics, &workflow.sources), "");
    let values = [
        ("Layer", serde_json::to_value(&loaded.catalog.layers[0].layer)),
        ("Catalog", serde_json::to_value(&loaded.catalog.settings)),
        ("Workflow", serde_json::to_value(workflow.workflow.expect("it evaluated"))),
    ];
    for (contract, value) in values {
        let value = value.expect("json");
        nothing_is_default(&value);
        assert_eq!(keys(&value), fields_of(contract), "{contract}");
    }
    let secrets = serde_json::to_value(&loaded.catalog.layers[0].layer.secrets).expect("json");
    assert_eq!(
        secrets,
        json!([{ "id": "ca", "env": "CA", "required": true }, { "id": "key", "file": "key.pem", "required": false }])
    );
    let tools = serde_json::to_value(&loaded.catalog.layers[0].layer.tools_provided).expect("json");
    assert_eq!(tools, json!([{ "name": "cargo", "version": ">=1.80", "probe": "cargo --version" }]));
}

#[test]
fn every_field_of_a_closed_contract_is_explained() {
    let (_, schema) = embedded().iter().find(|(name, _)| *name == "schemas/workflow.ncl").expect("the schema");
    for contract in ["Layer", "Catalog", "Workflow"] {
        let (_, body) = schema.split_once(&format!("\n  {contract}\n")).expect("the contract");
        let body = body.split_once("# closed").expect("a closed contract").0;
        let documented = body.matches("\n        | doc \"").count();
        assert_eq!(documented, fields_of(contract).len(), "{contract}");
    }
}

#[test]
fn a_workflows_paths_are_relative_to_its_own_folder() {
    let project = catalog(&[
        ("workflows/w.ncl", WORKFLOW),
        ("workflows/bare.ncl", "{}"),
        ("workflows/bad.ncl", "{ paralel = 1 }"),
    ]);
    let at = |name: &str| evaluator().workflow(&project.path().join("workflows").join(name), &[]).expect("a workflow");
    let full = at("w.ncl").workflow.expect("it evaluated");
    assert_eq!(full.catalog, Some(project.path().join("catalog")));
    assert_eq!(full.ca_bundle, Some(project.path().join("workflows/ca.pem")));
    let base = format!("oci-layout:{}", project.path().join(".lian/base").display());
    assert_eq!(full.base_images["debian:trixie-slim"], base);
    assert_eq!(full.base_images["absolute"], "oci-layout:/base");
    assert_eq!(at("bare.ncl").workflow, Some(lian_build::domain::model::Workflow::default()));
    let bad = at("bad.ncl");
    assert!(bad.workflow.is_none());
    assert_eq!(bad.diagnostics[0].code, "lian::nickel::unknown_field");
    assert_eq!(bad.diagnostics[0].help.as_deref(), Some("did you mean `parallel`?"));
    let error = evaluator().workflow(&project.path().join("workflows/none.ncl"), &[]).expect_err("there is none");
    assert!(error.to_string().starts_with("there is no workflow at "));
}

/// The defaults cannot be loaded as such, so a layer carries them out as labels.
fn exported(file: &str) -> Value {
    let layer = format!(
        "let value = import \"{file}\" in\n{{ name = \"x\", kind = 'app, build_base = \"y\", labels.value = std.serialize 'Json value }}"
    );
    let project = catalog(&[("catalog/x/workflow.ncl", &layer)]);
    let loaded = load(project.path());
    assert_eq!(drawn(&loaded.diagnostics, &loaded.sources), "");
    serde_json::from_str(&loaded.catalog.layers[0].layer.labels["value"]).expect("json")
}

#[test]
fn defaults_are_what_the_binary_counts_with() {
    let tiers = TIERS.iter().map(|tier| (tier.name, json!({ "cpu": tier.cpu, "memory_gb": tier.memory_gb })));
    assert_eq!(exported("defaults/size_tiers.ncl"), json!(BTreeMap::from_iter(tiers)));
    let aliases = builtin().size_aliases();
    let aliases = aliases.iter().map(|alias| (alias.name, json!(alias.tier)));
    assert_eq!(exported("defaults/size_aliases.ncl"), json!(BTreeMap::from_iter(aliases)));
    let languages = LANGUAGES.iter().chain([&OTHER_LANGUAGES]).map(|one| {
        let name = if one.language.is_empty() { "other" } else { one.language };
        let size = json!({ "cpu": one.cpu, "memory_gb": one.memory_gb, "time_budget_min": one.time_budget_min });
        (name, size)
    });
    assert_eq!(exported("defaults/languages.ncl"), json!(BTreeMap::from_iter(languages)));
}

#[test]
fn a_build_spec_is_checked() {
    let layer = r#"let { BuildSpec, .. } = import "schemas/build_spec.ncl" in
let spec = { language = "rust", runner_type = "cax41", cpu = 4, memory_gb = 8, time_budget_min = 60 } | BuildSpec in
{ name = "x", kind = 'app, build_base = "y", labels.value = std.serialize 'Json spec }"#;
    let wrong = layer.replace("cpu = 4", "cpu = 0.5");
    let project = catalog(&[("catalog/x/workflow.ncl", layer), ("catalog/z/workflow.ncl", &wrong)]);
    let loaded = load(project.path());
    assert_eq!(loaded.catalog.layers.len(), 1);
    assert_eq!(loaded.diagnostics[0].code, "lian::nickel::contract");
    assert_eq!(loaded.diagnostics[0].message, "`cpu`: expected a whole number from 1");
}
