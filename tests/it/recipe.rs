//! The project's own catalog, and what `check` says once the service's dependencies moved on.

use std::path::Path;
use std::process::Command;

use crate::support::project::{Project, text};

/// A project with this project's catalog, layers and example.
fn own() -> Project {
    let project = Project::new();
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["catalog", "lamina", "examples", "Makefile"].map(|name| here.join(name));
    let copied = Command::new("cp").arg("-r").args(folders).arg(project.path()).status().expect("cp runs");
    assert!(copied.success());
    project
}

fn replace(project: &Project, path: &str, from: &str, to: &str) {
    let written = std::fs::read_to_string(project.path().join(path)).expect("a file");
    assert!(written.contains(from), "{path} has no {from:?}");
    project.write(path, &written.replacen(from, to, 1));
}

#[test]
fn the_own_catalog_is_clean() {
    let json = own().lian(&["check", "--strict", "--format", "json"]).exits(0).json();
    assert_eq!(json["diagnostics"].as_array().map(Vec::len), Some(0), "{json}");
    assert!(json["layers"].as_u64() >= Some(8), "{json}");
}

#[test]
fn a_recipe_that_fell_behind_is_a_warning_at_the_context_of_the_layer_that_cooks_it() {
    let project = own();
    let lock = std::fs::read_to_string(project.path().join("examples/app/Cargo.lock")).expect("a lock file");
    let (_, rest) = lock.split_once("name = \"tokio\"\nversion = \"").expect("tokio is locked");
    let version = rest.split('"').next().expect("a version");
    let from = format!("name = \"tokio\"\nversion = \"{version}\"");
    replace(&project, "examples/app/Cargo.lock", &from, "name = \"tokio\"\nversion = \"1.999.0\"");

    let json = project.lian(&["check", "--format", "json"]).exits(0).json();
    let [warning] = json["diagnostics"].as_array().expect("diagnostics").as_slice() else { panic!("{json}") };
    assert_eq!((text(&warning["code"]), text(&warning["layer"])), ("lian::context::stale_recipe", "rust-deps"));
    assert_eq!((text(&warning["severity"]), json["ok"].as_bool()), ("warning", Some(true)));
    let said = format!("tokio 1.999.0 in Cargo.lock, {version} in the recipe");
    assert!(text(&warning["message"]).ends_with(&said), "{warning}");
    assert!(text(&warning["help"]).contains("make recipe"), "{warning}");
    let file = text(&warning["file"]);
    assert_eq!(file, "catalog/rust-deps/workflow.ncl");
    let declaration = std::fs::read_to_string(project.path().join(file)).expect("a file");
    let line = warning["line"].as_u64().and_then(|line| declaration.lines().nth(line as usize - 1));
    assert!(line.is_some_and(|line| line.contains("context =")), "{warning}");

    let ran = project.lian(&["check", "--strict"]).exits(1);
    assert!(ran.stderr.contains("lian::context::stale_recipe"), "{}", ran.both());
}

#[test]
fn editing_the_service_alone_leaves_the_recipe_fresh() {
    let project = own();
    replace(&project, "examples/app/src/main.rs", "\n", "\n// edited\n");
    replace(&project, "examples/app/Cargo.toml", "version = \"0.1.0\"", "version = \"0.2.0\"");
    replace(
        &project,
        "examples/app/Cargo.lock",
        "name = \"tally\"\nversion = \"0.1.0\"",
        "name = \"tally\"\nversion = \"0.2.0\"",
    );
    project.lian(&["check", "--strict"]).exits(0);
    replace(&project, "examples/app/Cargo.toml", "[dependencies]", "[dependencies]\nlog = \"0.4\"");
    let ran = project.lian(&["check", "--strict"]).exits(1);
    assert!(ran.stderr.contains("dependencies.log in Cargo.toml"), "{}", ran.both());
}
