//! `check` as people and programs meet it: each folder of `tests/fixtures/check` is a small project with what is said of
//! it beside it. `INSTA_UPDATE=always` writes that anew; which codes a case shows is held here.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::project::{LIAN, Ran, text};

/// Each case with the codes of its errors and warnings, in the order they are told, repeats left out.
const CASES: &[(&str, &str)] = &[
    ("argument-bytes", "nickel::contract"),
    ("bad-image", "graph::bad_image"),
    ("bare-name", "dockerfile::bare_name"),
    ("base-by-digest", ""),
    ("base-mismatch-arg", "dockerfile::base_mismatch"),
    ("base-mismatch-external", "dockerfile::base_mismatch"),
    ("base-mismatch-never-used", "dockerfile::base_mismatch"),
    ("base-mismatch-undeclared", "dockerfile::base_mismatch"),
    ("base-through-aliases", ""),
    ("base-two-digests", "dockerfile::base_mismatch"),
    ("broken-settings", "nickel::contract dockerfile::parse graph::missing_tool"),
    ("command-bytes", "dockerfile::parse"),
    ("context-missing", "context::missing dockerfile::missing"),
    ("context-outside-dots", "context::outside"),
    ("context-outside-link", "context::outside"),
    ("control-characters", "context::ignore_pattern dockerfile::parse"),
    ("cycle", "graph::cycle"),
    ("dockerfile-directives", "dockerfile::parse"),
    ("dockerfile-flags", "dockerfile::parse"),
    ("dockerfile-image", "dockerfile::image"),
    ("dockerfile-latin-1", ""),
    ("dockerfile-missing", "dockerfile::missing"),
    ("dockerfile-parse", "dockerfile::parse"),
    ("doubled-escape", ""),
    ("doubled-escape-edge", "dockerfile::base_mismatch"),
    ("duplicate-input", "graph::duplicate_input"),
    ("duplicate-layer", "graph::duplicate_layer"),
    ("duplicate-tool", "graph::duplicate_tool"),
    ("empty-forms", "dockerfile::parse"),
    ("file-names", "dockerfile::file_name"),
    ("fixed-platform", "graph::missing_platform"),
    ("heredoc-behind-bash", "dockerfile::parse"),
    ("image-name", "graph::image_name"),
    ("line-over-64k", "dockerfile::parse"),
    ("missing-platform", "graph::missing_platform"),
    ("missing-tool-ancestor", "graph::missing_tool"),
    ("missing-tool-descendant", "graph::missing_tool"),
    ("missing-tool-stranger", "graph::missing_tool"),
    ("nickel-contract", "nickel::contract"),
    ("nickel-eval", "nickel::eval"),
    ("nickel-import-cycle", "nickel::import_cycle"),
    ("nickel-import-not-found", "nickel::import_not_found"),
    ("nickel-import-outside", "nickel::import_outside"),
    ("nickel-limit", "nickel::limit"),
    ("nickel-missing-field", "nickel::missing_field"),
    ("nickel-parse", "nickel::parse"),
    ("nickel-type", "nickel::type"),
    ("nickel-unknown-field", "nickel::unknown_field"),
    ("other-platform", "graph::other_platform"),
    ("own-namespace", "graph::own_namespace"),
    ("self-base", "graph::self_base"),
    ("self-input", "graph::self_input"),
    (
        "several",
        "nickel::contract nickel::unknown_field nickel::parse context::missing dockerfile::parse graph::unknown_base graph::cycle dockerfile::base_mismatch graph::missing_tool",
    ),
    ("sound", ""),
    ("trigger-arg", ""),
    ("trigger-declared", ""),
    ("trigger-endless", "dockerfile::trigger"),
    ("trigger-mounts", "dockerfile::unknown_layer dockerfile::undeclared_secret dockerfile::undeclared_ssh"),
    ("trigger-stage", ""),
    ("trigger-undeclared", "dockerfile::base_mismatch"),
    ("undeclared-secret", "dockerfile::undeclared_secret dockerfile::undeclared_ssh dockerfile::unused_build_arg"),
    ("unknown-base", "nickel::contract graph::unknown_base"),
    ("unknown-input", "graph::unknown_input"),
    ("unknown-layer", "dockerfile::unknown_layer"),
    ("unknown-stage", "dockerfile::unknown_stage"),
    ("unused-build-arg", "dockerfile::unused_build_arg"),
    ("variable", "dockerfile::variable dockerfile::parse"),
];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/check")
}

/// Copies a project, its links as links, without what is expected of it.
fn copy(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from).min_depth(1) {
        let entry = entry.expect("readable");
        let below = entry.path().strip_prefix(from).expect("below");
        let target = to.join(below);
        if entry.file_type().is_dir() {
            fs::create_dir(&target).expect("writable");
        } else if entry.file_type().is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path()).expect("a link"), &target).expect("writable");
        } else if !below.starts_with("expected.txt") && !below.starts_with("expected.json") {
            fs::copy(entry.path(), &target).expect("writable");
        }
    }
}

fn check(project: &Path, format: &str) -> Ran {
    let mut command = Command::new(LIAN);
    command.args(["check", "--format", format]).current_dir(project).stdin(Stdio::null()).env("NO_COLOR", "1");
    command.env("LIAN_DATA_DIR", project.join("data of the user"));
    command.output().expect("the binary starts").into()
}

/// What a person sees, the time at the right edge of the last lines left out.
fn seen(ran: &Ran) -> String {
    let mut shown = String::new();
    for line in ran.stderr.lines().chain(ran.stdout.lines()) {
        let told = line.rsplit_once("  ").filter(|(_, end)| end.ends_with('s') && end.starts_with(char::is_numeric));
        writeln!(shown, "{}", told.map_or(line, |(line, _)| line).trim_end()).expect("text");
    }
    writeln!(shown, "exit {}", ran.code).expect("text");
    shown
}

fn codes(json: &Value) -> String {
    let mut codes: Vec<&str> = Vec::new();
    for row in json["diagnostics"].as_array().expect("diagnostics") {
        let code = text(&row["code"]).trim_start_matches("lian::");
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    codes.join(" ")
}

/// Compares with a file of the fixture, or writes it.
fn agrees(file: &Path, found: &str, faults: &mut Vec<String>) {
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        fs::write(file, found).expect("writable");
        return;
    }
    match fs::read_to_string(file) {
        Ok(expected) if expected == found => {}
        Ok(expected) => faults.push(format!("{}\n--- expected\n{expected}\n--- found\n{found}", file.display())),
        Err(error) => faults.push(format!("{}: {error}", file.display())),
    }
}

fn judge(case: &str, expected: &str, faults: &mut Vec<String>) {
    let folder = fixtures().join(case);
    let dir = tempfile::Builder::new().prefix("lian-check-").tempdir().expect("a temporary folder");
    copy(&folder, dir.path());
    fs::create_dir(dir.path().join(".git")).expect("writable");
    let (people, programs) = (check(dir.path(), "text"), check(dir.path(), "json"));
    let json = programs.json();
    if codes(&json) != expected {
        faults.push(format!("{case} shows `{}`, not `{expected}`\n{}", codes(&json), people.both()));
    }
    for row in json["diagnostics"].as_array().expect("diagnostics") {
        if !(row["line"].is_u64() && row["column"].is_u64() && row["file"].is_string() && row["help"].is_string()) {
            faults.push(format!("{case}: a fault without a place or a help line: {row}"));
        }
    }
    if (people.code, programs.code) != (programs.code, i32::from(json["ok"] != true)) {
        faults.push(format!("{case}: exit codes {} and {}, ok {}", people.code, programs.code, json["ok"]));
    }
    agrees(&folder.join("expected.txt"), &seen(&people), faults);
    let pretty = serde_json::to_string_pretty(&json).expect("json");
    agrees(&folder.join("expected.json"), &format!("{pretty}\n"), faults);
    let left: BTreeSet<_> = fs::read_dir(dir.path()).expect("readable").flatten().map(|one| one.file_name()).collect();
    if left.iter().any(|name| name == ".lian" || name == "data of the user") {
        faults.push(format!("{case}: check wrote something"));
    }
}

#[test]
fn every_fault_is_told_as_its_fixture_says() {
    let folders: BTreeSet<String> = fs::read_dir(fixtures())
        .expect("fixtures")
        .map(|entry| entry.expect("readable").file_name().into_string().expect("UTF-8"))
        .collect();
    let cases: BTreeSet<String> = CASES.iter().map(|(case, _)| (*case).to_owned()).collect();
    assert_eq!(folders, cases, "each folder is a case, and each case a folder");
    let mut faults = Vec::new();
    for (case, expected) in CASES {
        judge(case, expected, &mut faults);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}
