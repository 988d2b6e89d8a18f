//! What a workflow says of providers, runners and registry: each faulty text has its own message, at its place.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::schemas::WORKFLOW;
use super::{catalog, drawn, evaluator};
use lian_build::adapters::providers::builtin;
use lian_build::domain::model::{Diagnostic, ProviderName, Workflow};

fn workflow(text: &str) -> (Option<Workflow>, Vec<Diagnostic>, String) {
    let project = catalog(&[("workflows/w.ncl", text)]);
    let found = evaluator().workflow(&project.path().join("workflows/w.ncl"), &[]).expect("a workflow");
    let shown = drawn(&found.diagnostics, &found.sources);
    (found.workflow, found.diagnostics, shown)
}

/// What is said of a workflow that has this text instead of that.
fn instead(sound: &str, wrong: &str) -> (Vec<Diagnostic>, String) {
    assert!(WORKFLOW.contains(sound), "{sound}");
    let (value, diagnostics, shown) = workflow(&WORKFLOW.replacen(sound, wrong, 1));
    assert!(value.is_none(), "{wrong} passes");
    (diagnostics, shown)
}

/// What stands there, what is put there, the text that must be marked, and what must be said of it.
const FAULTY: &[(&str, &str, &str, &str)] = &[
    (r#"address = "h""#, r#"address = "h x""#, r#""h x""#, "`address`: this is no address of a host"),
    (r#"host_key ="#, r#"user = "a b", host_key ="#, r#""a b""#, "`user`: this is no name of a user"),
    ("ssh-ed25519 AAAA", "h ssh-ed25519 AAAA", r#""h ssh-ed25519 AAAA""#, "`host_key`: this is no public host key"),
    ("ssh-ed25519 AAAA", r"ssh-ed25519 AAAA\n", r#""ssh-ed25519 AAAA\n""#, "`host_key`: this is no public host key"),
    (
        "ssh-ed25519 AAAA",
        r"ssh-ed25519 AAAA a\nb",
        r#""ssh-ed25519 AAAA a\nb""#,
        "`host_key`: this is no public host key",
    ),
    ("linux/amd64", "linux/arm", r#""linux/arm""#, "`platform`: this is no platform of a runner"),
    ("ipv4 = false", r#"buildkit.sha256.amd64 = "0A""#, r#""0A""#, "`sha256`: this is no SHA-256 checksum"),
    ("https://p:8006", "p:8006", r#""p:8006""#, "`endpoint`: this is no address of a service"),
    (r#"ca = "ca.pem" }"#, r#"fingerprint = "AB:CD" }"#, r#""AB:CD""#, "`fingerprint`: this is no SHA-256 fingerprint"),
    (r#"ca = "ca.pem" }"#, r#"platform = "windows" }"#, r#""windows""#, "`platform`: this is no platform of a runner"),
    ("http://localhost:1", "ftp://p", r#""ftp://p""#, "`endpoint`: this is no address of a pool"),
    ("r.example:5000/a", "https://r", r#""https://r""#, "`address`: this is no address of a registry"),
    ("max_cost = 1.5", "max_cost = -1", "-1", "`max_cost`: expected a number above 0"),
    ("max_cost = 1.5", "max_cost = 0", "0", "`max_cost`: expected a number above 0"),
    ("max_leases = 3", "max_leases = 1001", "1001", "`max_leases`: expected a whole number from 0 to 1000"),
    ("[9100, 9199]", "[9199, 9100]", "[9199, 9100]", "`ids`: expected the first and the last, in this order"),
];

#[test]
fn each_faulty_text_has_its_own_message_at_its_place() {
    for (sound, wrong, marked, message) in FAULTY {
        let (diagnostics, shown) = instead(sound, wrong);
        assert_eq!(diagnostics.len(), 1, "{shown}");
        assert_eq!((&*diagnostics[0].code, &*diagnostics[0].message), ("lian::nickel::contract", *message), "{wrong}");
        assert!(shown.contains("workflows/w.ncl:") && shown.contains(&format!("`{marked}` this value\n")), "{shown}");
    }
}

#[test]
fn a_provider_that_there_is_not_is_told_with_those_that_there_are() {
    let told = [("'aws", "this is none of the allowed tags"), ("\"local\"", "expected an enum")];
    for (name, message) in told {
        let (diagnostics, shown) = instead("compute_provider = 'local", &format!("compute_provider = {name}"));
        assert_eq!((&*diagnostics[0].code, diagnostics.len()), ("lian::nickel::contract", 1), "{shown}");
        assert_eq!(diagnostics[0].message, format!("`compute_provider`: {message}"));
        let names = "`'local`, `'docker_local`, `'ssh`, `'hcloud`, `'proxmox`, `'vm_pool`";
        assert_eq!(diagnostics[0].help, Some(format!("expected one of {names}")), "{shown}");
    }
}

#[test]
fn a_workflows_paths_in_providers_settings_are_relative_to_its_own_folder() {
    let (value, _, shown) = workflow(WORKFLOW);
    let mut providers = value.unwrap_or_else(|| panic!("{shown}")).providers;
    builtin().resolve(&mut providers, |path| Path::new("/workflows").join(path)).expect("each provider reads its own");
    let of = |name| &providers[&ProviderName::from_static(name)];
    assert_eq!(of("ssh")["hosts"][0]["identity"], "/workflows/key");
    assert_eq!(of("proxmox")["ca"], "/workflows/ca.pem");
    assert_eq!(of("proxmox")["ids"], json!([9100, 9199]), "whole numbers stay whole");
}

#[test]
fn a_host_key_may_keep_its_comment() {
    for comment in [" root@builder-1", " two words", ""] {
        let text = WORKFLOW.replacen("ssh-ed25519 AAAA", &format!("ssh-ed25519 AAAA{comment}"), 1);
        let (value, _, shown) = workflow(&text);
        assert_eq!(shown, "");
        assert!(value.is_some(), "{comment}");
    }
}

#[test]
fn a_slip_in_the_name_of_an_inner_field_is_named() {
    let slips = [
        ("max_leases = 3", "max_lease = 3", "did you mean `max_leases`?"),
        ("hcloud = {", "hclod = {", "did you mean `hcloud`?"),
        ("locations =", "locatons =", "did you mean `locations`?"),
        ("address = \"h\"", "adress = \"h\", address = \"h\"", "did you mean `address`?"),
        ("plain_http = true", "plainhttp = true", "did you mean `plain_http`?"),
        ("workspace = \"w\"", "workspace = \"w\", zzz = 1", "`vm_pool` has the fields `endpoint` and `workspace`"),
    ];
    for (sound, wrong, help) in slips {
        let (diagnostics, shown) = instead(sound, wrong);
        let unknown = diagnostics.iter().find(|one| one.code == "lian::nickel::unknown_field");
        assert_eq!(unknown.unwrap_or_else(|| panic!("{shown}")).help.as_deref(), Some(help), "{shown}");
        assert!(shown.contains(" unknown field\n"), "{shown}");
    }
}

#[test]
fn no_address_in_the_interpreters_memory_is_shown() {
    let (value, _, shown) = workflow(r#"{ providers = { hcloud.image = "x", hcloud.locatons = ["a"] } }"#);
    assert!(value.is_none());
    assert!(!shown.contains("closure"), "{shown}");
    assert!(shown.contains("help: did you mean `locations`?"), "{shown}");
}

/// The records of a workflow with the field that holds each, as the model has them.
fn records(value: &Value, holder: &str, found: &mut Vec<(String, BTreeSet<String>)>) {
    const OPEN: [&str; 4] = ["labels", "sha256", "base_images", "build_args"];
    match value {
        Value::Object(fields) if !OPEN.contains(&holder) && holder != "set" => {
            found.push((holder.to_owned(), fields.keys().cloned().collect()));
            fields.iter().for_each(|(name, value)| records(value, name, found));
        }
        Value::Array(elements) => elements.iter().take(1).for_each(|value| records(value, holder, found)),
        _ => {}
    }
}

#[test]
fn the_fields_that_are_named_are_those_of_the_model() {
    let text = WORKFLOW.replacen("ipv4 = false", "ipv4 = false, buildkit.url = \"https://b\"", 1);
    let (value, _, shown) = workflow(&text);
    assert_eq!(shown, "");
    let mut found = Vec::new();
    let mut value = value.expect("sound");
    // What is unset is filled in by each provider itself.
    builtin().resolve(&mut value.providers, Path::to_owned).expect("each provider reads its settings");
    records(&serde_json::to_value(value).expect("json"), "", &mut found);
    let holders: BTreeSet<&str> =
        found.iter().map(|(holder, _)| holder.as_str()).filter(|one| !one.is_empty()).collect();
    assert_eq!(holders.len(), 15, "{holders:?}");
    for (holder, fields) in found.iter().filter(|(holder, _)| !holder.is_empty()) {
        let (at, open) = match holder.as_str() {
            "runners" | "providers" | "registry" | "artifact" | "cache_policy" | "runner_override" => {
                (holder.clone(), "")
            }
            "hosts" => ("providers.ssh.hosts".to_owned(), "["),
            "sizes" => ("providers.docker_local.sizes".to_owned(), "["),
            "buildkit" => ("providers.hcloud.buildkit".to_owned(), ""),
            provider => (format!("providers.{provider}"), ""),
        };
        let close = if open.is_empty() { "" } else { "]" };
        let (_, diagnostics, shown) = workflow(&format!("{{ {at} = {open}{{ zzzzzzzzzz = 1 }}{close} }}"));
        let told = diagnostics
            .iter()
            .find(|one| one.code == "lian::nickel::unknown_field")
            .unwrap_or_else(|| panic!("{shown}"));
        let help = told.help.as_deref().expect("help");
        let named: BTreeSet<String> = help.split('`').skip(3).step_by(2).map(str::to_owned).collect();
        assert_eq!(&named, fields, "{holder}: {help}");
    }
}
