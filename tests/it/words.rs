//! What people read of builds that failed or were skipped over, and of what waits: found, whole, and without noise.

use std::process::Stdio;

use crate::runners::{SESSION, project_on};
use crate::support::buildkitd;
use crate::support::lines::read_until;
use crate::support::project::{Project, Ran, text};
use crate::support::sandbox::{Sandbox, key_pair};

const BASE: &str = "  build_base = { image = \"base.example/busybox:1\" },";

#[test]
fn the_last_build_of_a_layer_is_shown_whichever_run_it_was() {
    let project = Project::with_base();
    project.layer("base", BASE, "FROM base.example/busybox:1\nRUN echo said by base\n");
    project.layer("other", BASE, "FROM base.example/busybox:1\nRUN echo said by other\n");
    project.lian(&["apply"]).exits(0);
    project.write("catalog/other/Dockerfile", "FROM base.example/busybox:1\nRUN echo said anew\n");
    project.lian(&["apply"]).exits(0);
    project.lian(&["apply"]).exits(0);
    let said = |arguments: &[&str]| project.lian(arguments).exits(0).stdout;
    assert!(said(&["logs", "latest", "base"]).contains("said by base"), "it was built two runs before");
    assert!(said(&["logs", "latest", "other"]).contains("said anew"));
    assert!(said(&["logs", "base"]).contains("said by base"), "a layer alone is its last build");
    let unknown = project.lian(&["logs", "latest", "none"]).exits(64);
    assert!(unknown.stderr.contains("lian::store::no_log"), "{}", unknown.both());
    let unknown = project.lian(&["logs", "none"]).exits(64);
    assert!(unknown.stderr.contains("lian::store::unknown_run"), "{}", unknown.both());
}

/// A step that names an error, and then writes this many lines about something else.
fn noisy(lines: usize) -> String {
    format!(
        "FROM base.example/busybox:1\nRUN echo 'main.c:3:1: error: expected a semicolon' >&2; i=0; \
         while [ $i -lt {lines} ]; do i=$((i+1)); echo \"progress of something else, long enough to fill a log: $i\"; \
         done; exit 1\n"
    )
}

#[test]
fn a_noisy_step_shows_the_line_that_looks_like_the_cause() {
    let project = Project::with_base();
    // More than BuildKit's own limits of speed and size would let through in this time.
    project.layer("noisy", BASE, &noisy(12_000));
    let ran = project.lian(&["apply", "--format", "json"]).exits(1);
    let events = ran.events();
    let end = events.iter().find(|event| event["type"] == "step.finished").expect("an end");
    assert_eq!(end["fault"]["causes"][0], "main.c:3:1: error: expected a semicolon", "{end}");
    assert!(end["fault"]["log_tail"].to_string().contains("progress of something else"), "{end}");
    assert!(end["fault"]["clipped"].is_null(), "a daemon of lian-build's keeps more of a log: {end}");
    let shown = project.lian(&["apply"]).exits(1);
    let (cause, noise) = (shown.stdout.find("main.c:3:1: error"), shown.stdout.find("progress of something else"));
    assert!(cause.is_some() && cause < noise, "{}", shown.both());
    assert!(shown.stdout.contains("that may be the cause"), "{}", shown.both());
}

#[test]
fn a_log_that_buildkit_clipped_is_told_with_the_way_to_raise_its_limit() {
    let project = Project::with_base();
    project.layer("noisy", BASE, &noisy(2_000));
    let data = buildkitd::scratch();
    let mut command = project.command(&["apply"]);
    command.env_remove("BUILDKIT_HOST").env("LIAN_DATA_DIR", data.path()).env("LIAN_DAEMON_IDLE", "1s");
    command.env("BUILDKIT_STEP_LOG_MAX_SIZE", "20000");
    let ran = Ran::from(command.output().expect("it starts")).exits(1);
    assert!(ran.stdout.contains("BuildKit did not keep all of it"), "{}", ran.both());
    assert!(ran.stdout.contains("BUILDKIT_STEP_LOG_MAX_SIZE=-1"), "{}", ran.both());
}

#[test]
fn waiting_for_a_host_is_told_without_a_terminal_and_without_names_of_modules() {
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let host = Sandbox::with(&public, 4, 8);
    let project = |name: &str, step: &str| {
        let project = project_on(&[(&host, 4, 8)], &key, SESSION);
        project.layer(name, BASE, &format!("FROM base.example/busybox:1\nRUN {step}\n"));
        project
    };
    let (first, second) = (project("first", "sleep 12; true"), project("second", "true"));
    let data = first.path().join("data");
    let mut holding = first.command(&["apply", "--format", "json"]);
    let mut holding = holding.env("LIAN_DATA_DIR", &data).stdout(Stdio::piped()).spawn().expect("it starts");
    let reading = read_until(&mut holding, |line| line.contains("RUN sleep 12") && line.contains("started"));
    let mut waiting = second.command(&["apply"]);
    let ran = Ran::from(waiting.env("LIAN_DATA_DIR", &data).output().expect("it starts")).exits(0);
    assert_eq!(reading.drain().0, 0);
    assert!(ran.stderr.contains("! all hosts that fit are taken: waiting"), "{}", ran.both());
    assert!(ran.stderr.contains("· second  waits for a runner"), "{}", ran.both());
    assert!(!ran.stderr.contains("WARN") && !ran.stderr.contains("lian_build::"), "{}", ran.both());
}

#[test]
fn a_pipe_in_a_context_is_told_by_check_unless_it_is_left_out() {
    let project = Project::new();
    project.layer("base", BASE, "FROM base.example/busybox:1\nCOPY . /x\n");
    project.write("catalog/base/sub/file", "x");
    let made = std::process::Command::new("mkfifo").arg(project.path().join("catalog/base/sub/pipe")).status();
    assert!(made.expect("mkfifo runs").success());
    let json = project.lian(&["check", "--format", "json"]).exits(1).json();
    let fault = &json["diagnostics"][0];
    assert_eq!(text(&fault["code"]), "lian::context::odd_file", "{json}");
    assert!(text(&fault["message"]).contains("catalog/base/sub/pipe"), "{json}");
    project.write("catalog/base/.dockerignore", "**/pipe\n");
    project.lian(&["check"]).exits(0);
}

#[test]
fn gc_says_what_it_removed_and_why_it_keeps_more_than_was_asked() {
    let project = Project::with_base();
    project.layer("base", BASE, "FROM base.example/busybox:1\nRUN echo kept > /kept\n");
    project.lian(&["apply"]).exits(0);
    let gc = |arguments: &[&str]| {
        let mut command = project.command(arguments);
        command.env("LIAN_DATA_DIR", project.data()).env("BUILDKIT_HOST", "unix:///nowhere");
        Ran::from(command.output().expect("it starts")).exits(0)
    };
    let told = gc(&["gc", "--keep-bytes", "1kB"]).stdout;
    assert!(
        told.contains("images: none removed, ") && told.contains("more than 1.0 kB: the image under each `latest`"),
        "{told}"
    );
    assert!(!gc(&["gc"]).stdout.contains("more than"));
    let json = gc(&["gc", "--keep-bytes", "1kB", "--format", "json"]).json();
    assert!(text(&json["kept_why"]).contains("`latest`"), "{json}");
}

#[test]
fn an_own_image_stands_in_for_a_base_by_its_own_tag() {
    let (made, user) = (Project::with_base(), Project::with_base());
    made.layer("one", BASE, "FROM base.example/busybox:1\nRUN echo one > /one\n");
    made.layer("two", BASE, "FROM base.example/busybox:1\nRUN echo two > /two\n");
    made.lian(&["apply"]).exits(0);
    user.layer("app", "  build_base = { image = \"own.example/two:1\" },", "FROM own.example/two:1\nRUN cat /two\n");
    let layout = made.state().join("images");
    let base = format!("--base-image=own.example/two:1=oci-layout:{}:lamina/two:latest", layout.display());
    user.lian(&["apply", &base]).exits(0);
}
