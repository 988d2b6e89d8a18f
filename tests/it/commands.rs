//! The commands around a build: usage, schemas, completions, logs and locks, without a daemon.

use crate::support::project::{Project, Ran, text};

fn one_layer() -> Project {
    let project = Project::new();
    project.layer(
        "base",
        "  build_base = { image = \"base.example/busybox:1\" },",
        "FROM base.example/busybox:1\nRUN echo hello\n",
    );
    project
}

#[test]
fn check_needs_nothing_and_leaves_nothing() {
    let project = one_layer();
    let ran = project.lian(&["check", "--format", "json"]).exits(0);
    let json = ran.json();
    assert_eq!(
        (json["ok"].as_bool(), json["layers"].as_u64(), json["schema"].as_u64()),
        (Some(true), Some(1), Some(1))
    );
    assert!(!project.state().exists(), "check wrote something");
    assert!(!project.path().join("catalog/lian.lock").exists(), "check wrote something");
}

#[test]
fn all_faults_are_told_at_once_and_each_has_its_place() {
    let project = one_layer();
    project.write("catalog/torn/workflow.ncl", "{ name = \n");
    project.layer("app", "  build_base = \"bsae\",", "FROM lamina/bsae\n");
    project.layer("poor", "  build_base = \"base\",\n  tools_required = [\"nothing\"],", "FROM lamina/base\n");
    let json = project.lian(&["check", "--format", "json"]).exits(1).json();
    let rows = json["diagnostics"].as_array().expect("diagnostics");
    let codes: Vec<&str> = rows.iter().map(|row| text(&row["code"])).collect();
    for code in ["lian::nickel::parse", "lian::graph::unknown_base", "lian::graph::missing_tool"] {
        assert!(codes.contains(&code), "{code} is not among {codes:?}");
    }
    for row in rows {
        assert!(row["line"].is_u64() && row["column"].is_u64() && row["help"].is_string(), "{row}");
    }
    let typo = rows.iter().find(|row| row["code"] == "lian::graph::unknown_base").expect("told");
    assert!(typo.to_string().contains("did you mean `base`"), "{typo}");
}

#[test]
fn an_empty_catalog_is_sound() {
    let project = Project::new();
    std::fs::create_dir(project.path().join("catalog")).expect("writable");
    assert_eq!(project.lian(&["check", "--format", "json"]).exits(0).json()["layers"], 0);
    project.lian(&["plan"]).exits(0);
}

#[test]
fn warnings_fail_only_when_asked() {
    let project = one_layer();
    project.layer("app", "  build_base = \"base\",\n  build_args = { UNUSED = \"1\" },", "FROM lamina/base\n");
    project.lian(&["check"]).exits(0);
    project.lian(&["check", "--strict"]).exits(1);
}

#[test]
fn wrong_usage_has_a_code_of_its_own() {
    let project = one_layer();
    project.lian(&["no-such-command"]).exits(64);
    project.lian(&["check", "--format", "dot"]).exits(64);
    project.lian(&["plan", "--base-image", "nonsense"]).exits(64);
    let ran =
        project.lian(&["plan", "--target", "bsae", "--base-image", "base.example/busybox:1=oci-layout:."]).exits(64);
    assert!(ran.stderr.contains("did you mean `base`"), "{}", ran.both());
}

#[test]
fn an_image_that_cannot_be_resolved_names_the_way_out() {
    let project = one_layer();
    // Port 1 of this machine refuses at once: nothing listens there.
    let base = "  build_base = { image = \"127.0.0.1:1/busybox:1\" },";
    project.layer("base", base, "FROM 127.0.0.1:1/busybox:1\n");
    let ran = project.lian(&["plan"]).exits(4);
    assert!(
        ran.stderr.contains("lian::registries::unreachable") && ran.stderr.contains("--base-image"),
        "{}",
        ran.both()
    );
}

#[test]
fn images_that_cannot_be_resolved_are_told_together() {
    let project = Project::new();
    for (name, port) in [("one", 1), ("two", 2)] {
        let base = format!("  build_base = {{ image = \"127.0.0.1:{port}/busybox:1\" }},");
        project.layer(name, &base, &format!("FROM 127.0.0.1:{port}/busybox:1\n"));
    }
    let ran = project.lian(&["plan"]).exits(4);
    assert!(ran.stderr.contains("127.0.0.1:1") && ran.stderr.contains("127.0.0.1:2"), "{}", ran.both());
}

#[test]
fn a_pin_is_used_and_a_damaged_lock_is_shown() {
    let project = one_layer();
    let digest = format!("sha256:{}", "a".repeat(64));
    let lock = format!("{{\"version\":1,\"images\":{{\"base.example/busybox:1\":{{\"digest\":\"{digest}\"}}}}}}\n");
    project.write("catalog/lian.lock", &lock);
    let json = project.lian(&["plan", "--format", "json"]).exits(0).json();
    assert_eq!(json["summary"]["build"], 1, "{json}");
    project.write("catalog/lian.lock", "{\"version\": 1,\n \"images\": [}\n");
    let ran = project.lian(&["plan"]).exits(1);
    assert!(ran.stderr.contains("lian::lock::parse") && ran.stderr.contains("lian.lock:2:"), "{}", ran.both());
}

#[test]
fn schemas_and_completions_are_written() {
    let project = Project::new();
    project.lian(&["schemas", "--export", "out"]).exits(0);
    assert!(project.path().join("out/schemas/workflow.ncl").is_file());
    for shell in ["bash", "zsh", "fish"] {
        assert!(project.lian(&["completions", shell]).exits(0).stdout.contains("lian-build"));
    }
    let ran = project.lian(&["schemas", "--export", "out/schemas/workflow.ncl"]).exits(64);
    assert!(ran.stderr.contains("lian::cli::unwritable") && ran.stderr.contains("cannot be written"), "{}", ran.both());
}

#[test]
fn loading_what_is_no_layer_names_those_that_are() {
    let project = one_layer();
    let ran = project.lian(&["load", "bse"]).exits(64);
    assert!(ran.stderr.contains("the catalog has no layer `bse`"), "{}", ran.both());
    assert!(ran.stderr.contains("did you mean `base`? it has: `base`"), "{}", ran.both());
    let ran = project.lian(&["load", "base"]).exits(64);
    assert!(ran.stderr.contains("it is not built") && ran.stderr.contains("apply --target base"), "{}", ran.both());
}

#[test]
fn loading_without_an_engine_says_so_and_starts_nothing() {
    let project = Project::with_base();
    project.layer(
        "base",
        "  build_base = { image = \"base.example/busybox:1\" },",
        "FROM base.example/busybox:1\nRUN echo hello\n",
    );
    project.lian(&["apply"]).exits(0);
    let empty = project.path().join("empty");
    std::fs::create_dir(&empty).expect("writable");
    let mut command = project.command(&["load", "base"]);
    let bin = crate::support::buildkitd::binaries();
    command.env("PATH", &empty).env("LIAN_BUILDKIT_BIN", bin.buildctl.parent().expect("a folder"));
    let ran = Ran::from(command.output().expect("it starts")).exits(4);
    assert!(ran.stderr.contains("neither `docker` nor `podman`"), "{}", ran.both());
    assert!(!project.data().join("buildkit").exists(), "a daemon was started first");
}

#[test]
fn runs_and_logs_of_a_project_without_any_say_so() {
    let project = one_layer();
    assert!(project.lian(&["runs"]).exits(0).stdout.contains("no runs yet"));
    let ran = project.lian(&["logs", "latest"]).exits(64);
    assert!(ran.stderr.contains("lian::store::unknown_run"), "{}", ran.both());
}

#[test]
fn every_command_has_help_with_a_line_of_its_own() {
    let project = Project::new();
    let all = ["check", "plan", "apply", "update", "runs", "logs", "load", "gc", "schemas", "doctor", "completions"];
    for command in all {
        let help = project.lian(&[command, "--help"]).exits(0).stdout;
        assert!(help.contains("Usage: lian-build"), "{command}: {help}");
    }
}

#[test]
fn a_result_that_cannot_be_written_is_a_failure() {
    let project = one_layer();
    let full = std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let output = project.command(&["check"]).stdout(full).output().expect("it starts");
    assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_workflow_beside_the_catalog_is_found_from_inside_it() {
    let project = one_layer();
    project.write("workflows/local.ncl", "{ base_images.\"base.example/busybox:1\" = \"oci-layout:../nowhere\" }\n");
    for (folder, catalog) in [(".", "catalog"), ("catalog", "."), (".", "./catalog/"), ("catalog/base", "..")] {
        let mut command = project.command(&["plan", catalog]);
        let output = command.current_dir(project.path().join(folder)).output().expect("it starts");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(stderr.contains("nowhere"), "{folder} {catalog}: the workflow was not used: {stderr}");
    }
}

#[test]
fn a_programs_last_line_is_the_end_of_the_run_whatever_happens() {
    let project = one_layer();
    project.write("catalog/base/Dockerfile", "FROM elsewhere\n");
    let events = project.lian(&["apply", "--format", "json"]).exits(1).events();
    let last = events.last().expect("a last line");
    assert_eq!((text(&last["type"]), text(&last["outcome"])), ("run.finished", "failure"));
    assert_eq!(events[0]["ok"], false, "what is wrong comes first");
}

#[test]
fn the_end_of_a_start_that_fails_has_a_run_and_a_time_like_all_others() {
    let project = one_layer();
    let mut runs = std::collections::BTreeSet::new();
    for wrong in [&["apply", "nowhere"][..], &["apply", "--workflow", "nowhere.ncl"], &["dispatch", "--context", "no"]]
    {
        let events = project.lian(&[wrong, &["--format", "json"]].concat()).events();
        let last = events.last().expect("a last line");
        assert_eq!((text(&last["type"]), text(&last["outcome"])), ("run.finished", "failure"), "{wrong:?}");
        assert!(last["at"].as_u64().is_some_and(|at| at > 1_700_000_000_000), "{last}");
        runs.insert(text(&last["run"]).to_owned());
    }
    assert_eq!(runs.len(), 3, "each start has a run of its own: {runs:?}");
}

#[test]
fn leases_of_a_project_without_a_history_are_listed_and_nothing_is_made() {
    let project = one_layer();
    let listed = project.lian(&["leases", "--format", "json"]).exits(0).json();
    assert_eq!(listed["leases"], serde_json::json!([]), "{listed}");
    let collected = project.lian(&["leases", "gc", "--format", "json"]).exits(0).json();
    assert_eq!(collected["released"], serde_json::json!([]), "{collected}");
    let unknown = project.lian(&["leases", "gc", "--forget", "r-1"]).exits(64);
    assert!(unknown.stderr.contains("lian::leases::unknown"), "{}", unknown.both());
    assert!(!project.state().exists(), "a history was made only to look into it");
}

#[test]
fn an_image_that_is_not_there_is_not_dropped_as_if_it_were() {
    let project = one_layer();
    let ran = project.lian(&["gc", "--drop", "nope/nope"]).exits(64);
    assert!(ran.stderr.contains("nope/nope") && ran.stderr.contains("there is none"), "{}", ran.both());
}

#[test]
fn doctor_asks_the_engine_and_tries_its_folders() {
    use std::os::unix::fs::PermissionsExt as _;
    let project = one_layer();
    // Docker's command is installed, and no engine is behind it.
    project.write("bin/docker", "#!/bin/sh\necho Cannot connect to the Docker daemon >&2\nexit 1\n");
    let docker = project.path().join("bin/docker");
    std::fs::set_permissions(&docker, std::fs::Permissions::from_mode(0o755)).expect("own file");
    let looked = |temporary: &str| {
        let mut command = project.command(&["doctor", "--format", "json"]);
        command.env("PATH", project.path().join("bin")).env("TMPDIR", temporary);
        let output = command.output().expect("it runs");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("JSON")
    };
    let told = looked("/nowhere/at/all");
    let state = |name: &str| {
        let findings = told["findings"].as_array().expect("findings");
        let finding = findings.iter().find(|finding| finding["name"] == name).expect("a finding");
        (text(&finding["state"]).to_owned(), format!("{} {}", finding["detail"], finding["mend"]))
    };
    let (engine, detail) = state("engine");
    assert!(engine == "advice" && detail.contains("Cannot connect to the Docker daemon"), "{told}");
    let (temporary, detail) = state("TMPDIR");
    assert!(temporary == "missing" && detail.contains("set TMPDIR"), "{told}");
    assert_eq!(state("project").0, "well", "{told}");
    let (ssh, detail) = state("ssh");
    assert!(ssh == "advice" && detail.contains("ssh-keygen, rsync"), "{told}");
    let (buildkit, detail) = state("BuildKit");
    assert!(buildkit == "well" || detail.contains("releases of moby/buildkit"), "{told}");
    assert!(!project.state().exists(), "looking left something");
}

#[test]
fn a_temporary_folder_that_is_not_there_is_this_machines_fault_and_tried_once() {
    let project = Project::with_base();
    project.layer(
        "base",
        "  build_base = { image = \"base.example/busybox:1\" },",
        "FROM base.example/busybox:1\nRUN echo hello\n",
    );
    let mut command = project.command(&["apply", "--format", "json"]);
    let ran: Ran = command.env("TMPDIR", "/nowhere/at/all").output().expect("it runs").into();
    let ran = ran.exits(4);
    let events = ran.events();
    let end = events.iter().find(|event| event["type"] == "step.finished").expect("an end");
    assert_eq!((text(&end["fault"]["kind"]), text(&end["fault"]["code"])), ("unavailable", "lian::buildkit::scratch"));
    assert!(!events.iter().any(|event| event["type"] == "step.retried"), "{}", ran.both());
}

#[test]
fn a_reader_that_went_away_changes_no_exit_code() {
    let project = one_layer();
    let with = |arguments: &[&str]| {
        let (reader, closed) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = project.command(arguments);
        command.stdout(closed.try_clone().expect("a pipe")).stderr(closed);
        command.status().expect("it starts").code()
    };
    assert_eq!(with(&["check"]), Some(0));
    project.write("catalog/base/Dockerfile", "FRM base.example/busybox:1\n");
    assert_eq!(with(&["check"]), Some(1), "a fault that nobody reads is no bug");
    assert_eq!(with(&["check", "--format", "json"]), Some(1));
}

#[test]
fn the_layer_that_help_shows_in_an_empty_folder_is_sound_as_it_stands() {
    let project = Project::new();
    let told = project.lian(&["check"]).exits(64).stderr;
    // What a person would copy: below a file's name, what is indented no less than it, up to an empty line.
    for name in ["catalog/hello/workflow.ncl", "catalog/hello/Dockerfile"] {
        let lines = told.lines().skip_while(|line| line.trim() != name);
        let text: Vec<&str> = lines.skip(1).take_while(|line| !line.trim().is_empty()).map(str::trim).collect();
        assert!(!text.is_empty(), "{name} is not shown:\n{told}");
        project.write(name, &(text.join("\n") + "\n"));
    }
    let json = project.lian(&["check", "--strict", "--format", "json"]).exits(0).json();
    assert_eq!((json["layers"].as_u64(), json["diagnostics"].as_array().map(Vec::len)), (Some(1), Some(0)), "{json}");
    // Another folder is named by its own name.
    let told = project.lian(&["check", "elsewhere"]).exits(64).stderr;
    assert!(told.contains("elsewhere/hello/Dockerfile"), "{told}");
}
