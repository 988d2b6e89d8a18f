//! RunnerConnector on a real Docker Engine: made, limited, reused within a run, found again, gone.

mod unprivileged;

use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use crate::support::clock;
use crate::support::docker::{Engine, engine};
use crate::support::lines::read_until;
use crate::support::project::{Project, Ran, text};
use crate::support::registry::Registry;

const BASE: &str = "  build_base = { image = \"base.example/busybox:1\" },";
/// A size that a test can fill, and one that it cannot.
const SIZES: &str = "sizes = [{ cpu = 1, memory_gb = 1 }, { cpu = 2, memory_gb = 4 }]";

fn project(docker: &str, runners: &str) -> Project {
    let project = Project::with_base();
    project.write(
        "workflows/local.ncl",
        &format!(
            "let {{ Workflow, .. }} = import \"schemas/workflow.ncl\" in\n{{ catalog = \"../catalog\", parallel = 2, \
             compute_provider = 'docker_local, providers.docker_local = {{ {docker} }}, runners = {{ {runners} }} }} | Workflow\n"
        ),
    );
    project
}

fn command(project: &Project, engine: &Engine, arguments: &[&str]) -> Command {
    let mut command = project.command(arguments);
    command.env("DOCKER_HOST", engine.host()).env_remove("BUILDKIT_HOST");
    command
}

fn lian(project: &Project, engine: &Engine, arguments: &[&str]) -> Ran {
    command(project, engine, arguments).output().expect("the binary starts").into()
}

/// A folder whose only program is `docker`.
fn bare() -> tempfile::TempDir {
    let bare = tempfile::tempdir().expect("a folder");
    let path = std::env::var_os("PATH").expect("a PATH");
    let docker = std::env::split_paths(&path).map(|dir| dir.join("docker")).find(|file| file.exists()).expect("docker");
    symlink(docker, bare.path().join("docker")).expect("a link");
    bare
}

/// Runs a command for somebody who has Docker, and no BuildKit.
fn with_docker_alone(project: &Project, engine: &Engine, bare: &std::path::Path, arguments: &[&str]) -> Ran {
    alone(project, engine, bare, arguments).output().expect("the binary starts").into()
}

fn alone(project: &Project, engine: &Engine, bare: &std::path::Path, arguments: &[&str]) -> Command {
    let mut command = command(project, engine, arguments);
    command.env("PATH", bare).env("XDG_CACHE_HOME", bare).env("LIAN_DATA_DIR", bare).env_remove("LIAN_BUILDKIT_BIN");
    command
}

#[test]
fn whoever_has_docker_alone_builds_loads_and_is_told_that_all_is_well() {
    let engine = engine();
    let project = Project::with_base();
    project.layer("one", BASE, "FROM base.example/busybox:1\nRUN echo loaded > /one\n");
    let bare = bare();
    let lian = |arguments: &[&str]| with_docker_alone(&project, &engine, bare.path(), arguments);
    let built = lian(&["apply"]).exits(0);
    assert!(built.stderr.contains("it is built by `--provider docker-local`"), "{}", built.both());
    // Whoever names a provider gets that one, or is told why not.
    let own = lian(&["apply", "--provider", "local", "--force", "one"]).exits(4);
    assert!(own.both().contains("was not found"), "{}", own.both());

    let loaded = lian(&["load", "one", "--tag", "own/one:dev"]).exits(0);
    assert_eq!(loaded.stdout, "own/one:dev is in docker\n");
    assert_eq!(engine.docker(&["run", "--rm", "--network=none", "own/one:dev", "cat", "/one"]), "loaded");
    engine.docker(&["rmi", "own/one:dev"]);
    assert!(!bare.path().join("buildkitd.log").exists(), "a daemon was started");

    let told = lian(&["doctor"]);
    assert!(told.stdout.contains("✓ BuildKit     builds run in Docker"), "{}", told.both());
    for name in ["runc", "daemon", "privileges"] {
        assert!(!told.stdout.contains(&format!("✗ {name}")), "{}", told.both());
    }
    engine.is_empty();
}

#[test]
fn an_image_in_a_registry_is_fetched_and_loaded_without_a_daemon() {
    let engine = engine();
    let registry = Registry::start();
    let project = Project::with_base();
    project.write(
        "workflows/local.ncl",
        &format!(
            "let {{ Workflow, .. }} = import \"schemas/workflow.ncl\" in\n{{ catalog = \"../catalog\", \
             registry_provider = 'registry, registry = {{ address = \"{}/team\", plain_http = true }} }} | Workflow\n",
            registry.address()
        ),
    );
    project.layer("one", BASE, "FROM base.example/busybox:1\nRUN echo fetched > /one\n");
    project.lian(&["apply"]).exits(0);
    let bare = bare();
    let loaded = with_docker_alone(&project, &engine, bare.path(), &["load", "one"]).exits(0);
    assert!(loaded.stdout.starts_with("lamina/one:latest is in docker, pulled from "), "{}", loaded.both());
    assert_eq!(engine.docker(&["run", "--rm", "--network=none", "lamina/one", "cat", "/one"]), "fetched");
    engine.docker(&["rmi", "lamina/one"]);
}

#[test]
fn layers_are_built_in_containers_that_are_reused_and_gone_with_the_run() {
    let engine = engine();
    let project = project(SIZES, "max_leases = 2");
    project.layer("base", BASE, "FROM base.example/busybox:1\nRUN hostname > /where || cat /etc/hostname > /where\n");
    for name in ["left", "right"] {
        project.layer(name, "  build_base = \"base\",", &format!("FROM lamina/base\nRUN echo {name} > /{name}\n"));
    }
    let fields = "  build_base = \"left\",\n  build_inputs = [\"right\"],\n  tools_provided = [\"cat\"],\n  artifact_paths = [\"/right\"],";
    project.layer("top", fields, "FROM lamina/left\nCOPY --from=lamina/right /right /right\n");
    let ran = lian(&project, &engine, &["apply", "--format", "json"]).exits(0);
    assert_eq!(ran.outcomes(), ["base=built", "left=built", "right=built", "top=built"]);
    let granted: Vec<_> = ran.events().into_iter().filter(|event| event["type"] == "lease.granted").collect();
    assert!((1..=2).contains(&granted.len()), "{}", ran.both());
    assert!(granted.iter().all(|event| text(&event["runner_type"]) == "2c4g"), "{}", ran.both());
    engine.is_empty();
    let again = lian(&project, &engine, &["apply", "--format", "json"]).exits(0);
    assert!(again.outcomes().iter().all(|outcome| outcome.ends_with("=reused")), "{}", again.both());
    assert!(again.events().iter().all(|event| event["type"] != "lease.granted"), "{}", again.both());
}

#[test]
fn what_dies_of_memory_in_a_small_container_lives_in_a_larger_one() {
    let engine = engine();
    let project = project(SIZES, "");
    let step = "x=$(head -c 700000000 /dev/zero | tr '\\0' a); echo ${#x}";
    project.layer("greedy", BASE, &format!("FROM base.example/busybox:1\nRUN {step}\n"));
    project.write(
        "catalog/greedy/.build-spec.ncl",
        "let { BuildSpec, .. } = import \"schemas/build_spec.ncl\" in { cpu = 1, memory_gb = 1 } | BuildSpec\n",
    );
    let ran = lian(&project, &engine, &["apply", "--format", "json"]).exits(0);
    let events = ran.events();
    let retried =
        events.iter().find(|event| event["type"] == "step.retried").unwrap_or_else(|| panic!("{}", ran.both()));
    assert_eq!(text(&retried["fault"]["code"]), "lian::buildkit::out_of_memory", "{retried}");
    assert!(text(&retried["fault"]["evidence"]).starts_with("killed at 1."), "{retried}");
    let end = events.iter().find(|event| event["type"] == "step.finished").expect("an end");
    assert_eq!((text(&end["runner_type"]), end["attempts"].as_u64()), ("2c4g", Some(2)), "{end}");
    let measured = &end["measured"];
    let (peak, cpu) = (measured["memory_peak"].as_u64().unwrap_or(0), measured["cpu_ms"].as_u64().unwrap_or(0));
    assert!(peak > 100_000_000 && cpu > 100 && measured["memory_limit"].as_u64() == Some(4 << 30), "{end}");
    engine.is_empty();
}

#[test]
fn a_killed_run_leaves_a_limited_container_that_is_found_and_given_back() {
    let engine = engine();
    let project = project(SIZES, "");
    project.layer("long", BASE, "FROM base.example/busybox:1\nRUN sleep 304; true\n");
    let mut child = command(&project, &engine, &["apply", "--format", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let reading = read_until(&mut child, |line| line.contains("RUN sleep 304") && line.contains("started"));
    let limits = "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.NanoCpus}}";
    let container = engine.docker(&["ps", "-q", "--filter", "label=build.lian.lease"]);
    let seen = engine.docker(&["inspect", "--format", limits, &container]);
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(2) as u64;
    assert_eq!(seen, format!("{0} {0} {1}", 4u64 << 30, cpus * 1_000_000_000));
    let killed = Command::new("kill").args(["-KILL", &reading.id().to_string()]).status();
    assert!(killed.expect("kill runs").success());
    reading.drain();
    assert_eq!(engine.docker(&["ps", "-q", "--no-trunc"]).lines().count(), 1, "the container outlives its run");
    let told = lian(&project, &engine, &["runs"]).exits(0);
    assert!(
        told.stderr.contains("1 runner of dead runs waits") || told.stderr.contains("wait to be given back"),
        "{}",
        told.both()
    );
    lian(&project, &engine, &["leases", "gc"]).exits(0);
    engine.is_empty();
}

#[test]
fn a_containers_lease_ends_by_the_engines_clock_whatever_this_machines_shows() {
    let engine = engine();
    let project = project(SIZES, "");
    for hours in [7, -7] {
        let now = lian_build::system::now().0;
        for (lease, expires) in [("other-1", now + 3_600_000), ("other-2", now - 3_600_000)] {
            let label = |key: &str, value: &str| format!("--label=build.lian.{key}={value}");
            let (name, lease) = (format!("--name=lian-{lease}"), label("lease", lease));
            let ends = label("expires", &expires.to_string());
            engine.docker(&["create", "--network=none", &name, &lease, &ends, "moby/buildkit:v0.32.2"]);
        }
        let mut collect = command(&project, &engine, &["leases", "gc", "--format", "json"]);
        let collected = Ran::from(collect.envs(clock::off(hours)).output().expect("the binary starts")).exits(0).json();
        assert_eq!(collected["released"], serde_json::json!(["other-2"]), "off by {hours} h");
        engine.docker(&["rm", "--volumes", "lian-other-1"]);
    }
    engine.is_empty();
}

#[test]
fn a_container_that_is_taken_away_is_followed_by_another() {
    let engine = engine();
    let project = project(SIZES, "");
    let dockerfile = "FROM base.example/busybox:1\nCOPY gate /gate\nRUN sleep $(cat /gate)\n";
    project.layer("slow", BASE, dockerfile);
    project.write("catalog/slow/gate", "3");
    let mut child = command(&project, &engine, &["apply", "--format", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let reading = read_until(&mut child, |line| line.contains("RUN sleep") && line.contains("started"));
    let container = engine.docker(&["ps", "-q", "--filter", "label=build.lian.lease"]);
    engine.docker(&["kill", &container]);
    let (code, output) = reading.drain();
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("step.retried") && output.contains("\"slow\",\"outcome\":\"built\""), "{output}");
    engine.is_empty();
}

/// A folder whose `docker` creates containers as an engine under load does: late, and also for a client that is gone.
fn late_docker() -> tempfile::TempDir {
    docker_that(
        "create",
        "{ sleep 2; $docker \"$@\" >$here/out 2>&1; : >$here/created; } >/dev/null 2>&1 </dev/null &\nwait $!\n\
         cat $here/out\n",
    )
}

/// A folder with a `docker` that says that it was asked for one of its commands, and then does this instead.
fn docker_that(word: &str, does: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let path = std::env::var_os("PATH").expect("a PATH");
    let docker = std::env::split_paths(&path).map(|dir| dir.join("docker")).find(|file| file.exists()).expect("docker");
    let script = format!(
        "#!/bin/sh\ndocker={0}; here={1}\n[ \"$1\" = {word} ] || exec $docker \"$@\"\n: >$here/asked\n{does}",
        docker.display(),
        folder.path().display()
    );
    std::fs::write(folder.path().join("docker"), script).expect("writable");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path().join("docker"), executable).expect("writable");
    folder
}

#[track_caller]
fn comes(file: &std::path::Path) {
    let started = std::time::Instant::now();
    while !file.exists() {
        assert!(started.elapsed().as_secs() < 60, "{file:?} never came");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn a_container_that_is_called_off_while_it_is_created_is_given_back() {
    let engine = engine();
    let project = project(SIZES, "");
    project.layer("one", BASE, "FROM base.example/busybox:1\nRUN echo one > /one\n");
    let late = late_docker();
    let mut command = command(&project, &engine, &["apply", "--format", "json"]);
    command.env("PATH", format!("{}:{}", late.path().display(), std::env::var("PATH").expect("a PATH")));
    let mut child = command.stdout(Stdio::null()).spawn().expect("the binary starts");
    comes(&late.path().join("asked"));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill").success());
    assert_eq!(child.wait().expect("waited for").code(), Some(130));
    comes(&late.path().join("created"));
    engine.is_empty();
}

#[test]
fn a_containers_id_is_in_the_ledger_at_once_and_a_release_goes_by_it() {
    let engine = engine();
    let project = project(SIZES, "");
    project.layer("one", BASE, "FROM base.example/busybox:1\nRUN echo one > /one\n");
    // The first command after the container was created.
    let stuck = docker_that("cp", "exec sleep 311\n");
    let mut command = command(&project, &engine, &["apply", "--format", "json"]);
    command.env("PATH", format!("{}:{}", stuck.path().display(), std::env::var("PATH").expect("a PATH")));
    let mut child = command.stdout(Stdio::null()).spawn().expect("the binary starts");
    comes(&stuck.path().join("asked"));
    child.kill().expect("killed");
    child.wait().expect("waited for");
    let container = engine.docker(&["ps", "-aq", "--no-trunc", "--filter", "label=build.lian.lease"]);
    let ledger = rusqlite::Connection::open(project.state().join("lian.db")).expect("a ledger");
    let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
    let known = ledger.query_row("select kind, id from resources", [], row).expect("one row");
    assert_eq!(known, ("container".to_owned(), container.clone()));
    // No name leads to it any more.
    engine.docker(&["rename", &container, "renamed-by-somebody"]);
    let collected = lian(&project, &engine, &["leases", "gc", "--format", "json"]).exits(0).json();
    assert_eq!(collected["released"].as_array().map(Vec::len), Some(1), "{collected}");
    engine.is_empty();
}

#[test]
fn an_engine_that_hangs_is_noticed_within_half_a_minute() {
    let engine = engine();
    let project = project(SIZES, "");
    project.layer("long", BASE, "FROM base.example/busybox:1\nRUN sleep 309; true\n");
    let mut child = command(&project, &engine, &["apply", "--format", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let reading = read_until(&mut child, |line| line.contains("RUN sleep 309") && line.contains("started"));
    engine.hang(true);
    let began = std::time::Instant::now();
    let (reading, retried) = reading.read_on(|line| line.contains("step.retried") || line.contains("step.finished"));
    let noticed = began.elapsed();
    engine.hang(false);
    assert!(Command::new("kill").args(["-INT", &reading.id().to_string()]).status().expect("kill").success());
    let (code, output) = reading.drain();
    assert!(retried.contains("step.retried"), "{retried}");
    assert!(noticed.as_secs() <= 30, "noticed after {noticed:?}: {retried}");
    assert_eq!(code, 130, "{output}");
    engine.is_empty();
}

#[test]
fn without_buildkit_on_this_machine_the_containers_client_is_used() {
    let engine = engine();
    let project = project(SIZES, "");
    project.layer("one", BASE, "FROM base.example/busybox:1\nRUN echo one > /one\n");
    let bare = bare();
    let data = tempfile::tempdir().expect("a folder");
    let mut command = alone(&project, &engine, bare.path(), &["apply", "--format", "json"]);
    command.env("LIAN_DATA_DIR", data.path());
    let ran = Ran::from(command.output().expect("the binary starts")).exits(0);
    assert_eq!(ran.outcomes(), ["one=built"]);
    // The image is the workflow's: no other project may come to run its programs.
    assert!(!bare.path().join("lian-build/tools").exists());
    let left = std::fs::read_dir(data.path().join("scratch")).expect("it was there").count();
    assert_eq!(left, 0, "buildctl outlives its run");
    engine.is_empty();
}

#[test]
fn an_engine_that_is_not_there_and_an_image_that_is_not_there_are_told_with_the_way_out() {
    let engine = engine();
    let project = project("image = \"registry.invalid/buildkit:none\"", "");
    project.layer("one", BASE, "FROM base.example/busybox:1\nRUN echo one > /one\n");
    let ran = lian(&project, &engine, &["apply"]).exits(4);
    assert!(ran.stdout.contains("cannot fetch it") && ran.stdout.contains("docker save"), "{}", ran.both());
    let mut away = command(&project, &engine, &["apply"]);
    let ran = Ran::from(away.env("DOCKER_HOST", "unix:///nowhere/docker.sock").output().expect("starts")).exits(4);
    assert!(ran.stderr.contains("lian::docker::engine") && ran.stderr.contains("start Docker"), "{}", ran.both());
    let mut none = command(&project, &engine, &["plan"]);
    let ran = Ran::from(none.env("PATH", "/nowhere").output().expect("starts")).exits(4);
    assert!(ran.stderr.contains("there is no `docker` command"), "{}", ran.both());
    engine.is_empty();
}

#[test]
fn what_stands_in_for_this_machine_is_asked_once_for_its_offers() {
    let engine = engine();
    let project = Project::with_base();
    project.layer("one", BASE, "FROM base.example/busybox:1\nRUN echo planned > /one\n");
    let bare = bare();
    let (docker, calls) = (bare.path().join("docker"), bare.path().join("calls"));
    let real = std::fs::read_link(&docker).expect("a link");
    std::fs::remove_file(&docker).expect("removable");
    let script = format!("#!/bin/sh\necho \"$1\" >> {}\nexec {} \"$@\"\n", calls.display(), real.display());
    std::fs::write(&docker, script).expect("a file");
    std::fs::set_permissions(&docker, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    let planned = with_docker_alone(&project, &engine, bare.path(), &["plan"]).exits(0);
    assert!(planned.stderr.contains("it is built by `--provider docker-local`"), "{}", planned.both());
    let calls = std::fs::read_to_string(&calls).expect("calls");
    assert_eq!(calls.lines().filter(|call| *call == "info").count(), 1, "{calls}");
}
