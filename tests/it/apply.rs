//! `apply` on a real buildkitd with tiny busybox layers: reuse, reasons, failures, verification, artifacts.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::project::{Project, Ran, text};

const BASE: &str = "  build_base = { image = \"base.example/busybox:1\" },";

/// base ← tool ← app, and other beside them.
fn family() -> Project {
    let project = Project::with_base();
    project.layer("base", BASE, "FROM base.example/busybox:1\nRUN echo base > /base\n");
    project.layer(
        "tool",
        "  build_base = \"base\",\n  tools_provided = [\"greet\"],\n  artifact_paths = [\"/bin/greet\"],",
        "FROM lamina/base\nCOPY greet /bin/greet\nRUN chmod 755 /bin/greet\n",
    );
    project.write("catalog/tool/greet", "#!/bin/sh\necho greetings 1.2.3\n");
    project.layer(
        "app",
        "  build_base = \"base\",\n  build_inputs = [\"tool\"],\n  tools_required = [\"greet\"],",
        "FROM lamina/base\nCOPY --from=lamina/tool /bin/greet /bin/greet\nCOPY src /src\nRUN greet > /said\n",
    );
    project.write("catalog/app/src/main.txt", "one");
    project.layer("other", BASE, "FROM base.example/busybox:1\nRUN echo other > /other\n");
    project
}

fn lian(project: &Project, arguments: &[&str]) -> Ran {
    project.lian(arguments)
}

fn apply(project: &Project, more: &[&str]) -> Ran {
    let mut arguments = vec!["apply", "--format", "json"];
    arguments.extend(more);
    lian(project, &arguments)
}

fn plan(project: &Project) -> Value {
    lian(project, &["plan", "--format", "json"]).exits(0).json()
}

/// `layer: action kind,kind`.
fn reasons(plan: &Value) -> Vec<String> {
    let step = |layer: &Value| {
        let kinds: Vec<&str> = layer["why"].as_array().expect("reasons").iter().map(|why| text(&why["kind"])).collect();
        format!("{}: {} {}", text(&layer["name"]), text(&layer["action"]), kinds.join(",")).trim_end().to_owned()
    };
    plan["layers"].as_array().expect("layers").iter().map(step).collect()
}

#[test]
fn the_second_apply_reuses_everything() {
    let project = family();
    let first = apply(&project, &[]).exits(0);
    assert_eq!(first.outcomes(), ["app=built", "base=built", "other=built", "tool=built"]);
    let last = first.events().pop().expect("events");
    assert_eq!((text(&last["type"]), text(&last["outcome"])), ("run.finished", "success"));
    assert_eq!((last["built"].as_u64(), last["reused"].as_u64()), (Some(4), Some(0)));
    let names = project.references();
    for layer in ["app", "base", "other", "tool", "tool-artifacts"] {
        assert!(names.contains(&format!("lamina/{layer}:latest")), "{names:?}");
    }
    let before = project.digest("lamina/app:latest");
    let second = apply(&project, &[]).exits(0);
    assert_eq!(second.outcomes(), ["app=reused", "base=reused", "other=reused", "tool=reused"]);
    assert_eq!(project.digest("lamina/app:latest"), before);
    assert!(!project.path().join("catalog/lian.lock").exists(), "a substituted base touched the lock");
}

#[test]
fn only_what_changed_is_built_and_the_plan_says_why() {
    let project = family();
    assert_eq!(
        reasons(&plan(&project)),
        ["base: build new", "other: build new", "tool: build new,base", "app: build new,base,base"]
    );
    apply(&project, &[]).exits(0);
    project.write("catalog/app/src/main.txt", "two");
    let planned = plan(&project);
    assert_eq!(reasons(&planned), ["base: reuse", "other: reuse", "tool: reuse", "app: build context"]);
    assert!(planned["layers"][3]["why"][0]["detail"].as_str().expect("text").contains("src/main.txt"), "{planned}");
    assert_eq!(apply(&project, &[]).exits(0).outcomes(), ["app=built", "base=reused", "other=reused", "tool=reused"]);
    project.write("catalog/base/Dockerfile", "FROM base.example/busybox:1\nRUN echo again > /base\n");
    assert_eq!(
        reasons(&plan(&project)),
        ["base: build dockerfile", "other: reuse", "tool: build base", "app: build base,base"]
    );
}

#[test]
fn plan_tells_changes_by_its_exit_code_and_writes_nothing() {
    let project = family();
    lian(&project, &["plan", "--detailed-exitcode"]).exits(2);
    project.write("catalog/base/.build-spec.ncl", "{ runner_type = \"cax31\" }");
    let size = plan(&project)["layers"][0]["size"].clone();
    let expected =
        json!({ "runner_type": "local", "cpu": 8, "memory_gb": 16, "time_budget_min": 30, "tier": "explicit" });
    assert_eq!(size, expected, "another provider's name works here too, and the runner is this machine");
    assert!(!project.state().exists(), "plan wrote something");
    apply(&project, &[]).exits(0);
    let files = || -> Vec<_> {
        let entries = walkdir::WalkDir::new(project.path()).sort_by_file_name().into_iter();
        let entries = entries.map(|entry| entry.expect("readable"));
        entries.map(|entry| (entry.path().to_owned(), entry.metadata().expect("readable").modified().ok())).collect()
    };
    let before = files();
    lian(&project, &["plan", "--detailed-exitcode"]).exits(0);
    assert_eq!(files(), before, "plan made or changed a file");
    std::fs::write(project.state().join("lian.db"), "no database, but long enough to be read").expect("writable");
    lian(&project, &["plan", "--detailed-exitcode"]).exits(0);
    let damaged = lian(&project, &["apply"]).exits(4);
    assert!(damaged.stderr.contains("lian::store::corrupt") && damaged.stderr.contains("help:"), "{}", damaged.both());
}

#[test]
fn quiet_is_silent_where_all_is_well_and_only_there() {
    let project = family();
    for arguments in
        [&["apply", "--quiet"][..], &["apply", "-q", "--force", "other"], &["apply", "-q"], &["plan", "-q"]]
    {
        let ran = lian(&project, arguments).exits(0);
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""), "{arguments:?}");
    }
    project.write("catalog/tool/Dockerfile", "FROM lamina/base\nRUN echo about to fail && exit 3\n");
    let failed = lian(&project, &["apply", "-q"]).exits(1);
    assert!(failed.stdout.contains("about to fail") && failed.stdout.contains("help:"), "{}", failed.both());
}

#[test]
fn forcing_rebuilds_what_stands_on_it() {
    let project = family();
    apply(&project, &[]).exits(0);
    let forced = apply(&project, &["--force", "tool"]).exits(0);
    assert_eq!(forced.outcomes(), ["app=built", "base=reused", "other=reused", "tool=built"]);
    apply(&project, &["--force", "nobody"]).exits(64);
}

#[test]
fn a_target_builds_what_it_stands_on_and_nothing_else() {
    let project = family();
    assert_eq!(apply(&project, &["--target", "tool"]).exits(0).outcomes(), ["base=built", "tool=built"]);
}

#[test]
fn a_tool_that_is_not_there_fails_the_layer_and_moves_no_tag() {
    let project = family();
    project.layer(
        "tool",
        "  build_base = \"base\",\n  tools_provided = [\"greet\", \"absent\", { name = \"greet2\", version = \">=2\", probe = \"greet\" }],",
        "FROM lamina/base\nCOPY greet /bin/greet\nRUN chmod 755 /bin/greet && cp /bin/greet /bin/greet2\n",
    );
    let ran = apply(&project, &[]).exits(1);
    assert_eq!(ran.outcomes(), ["app=skipped", "base=built", "other=built", "tool=failed"]);
    let events = ran.events();
    let end = events.iter().find(|event| event["layer"] == "tool" && event["type"] == "step.finished").expect("an end");
    let message = text(&end["fault"]["message"]);
    assert!(message.contains("absent") && message.contains("greet2"), "all that is missing is named: {end}");
    assert_eq!(end["fault"]["kind"], "verification");
    let names = project.references();
    assert!(!names.iter().any(|name| name.starts_with("lamina/tool")), "{names:?}");
}

#[test]
fn a_path_that_is_not_there_fails_the_layer() {
    let project = Project::with_base();
    let fields = format!("{BASE}\n  artifact_paths = [\"/made\", \"/absent\", \"/gone/too\"],");
    project.layer("base", &fields, "FROM base.example/busybox:1\nRUN echo x > /made\n");
    let ran = apply(&project, &[]).exits(1);
    let end = ran.events().into_iter().find(|event| event["type"] == "step.finished").expect("an end");
    let message = text(&end["fault"]["message"]);
    assert!(message.contains("/absent") && message.contains("/gone/too") && !message.contains("/made"), "{message}");
}

#[test]
fn a_failed_layer_skips_its_descendants_and_the_others_go_on() {
    let project = family();
    project.write("catalog/tool/Dockerfile", "FROM lamina/base\nRUN echo about to fail && exit 3\n");
    let ran = apply(&project, &[]).exits(1);
    assert_eq!(ran.outcomes(), ["app=skipped", "base=built", "other=built", "tool=failed"]);
    let events = ran.events();
    let end = events.iter().find(|event| event["layer"] == "tool" && event["type"] == "step.finished").expect("an end");
    assert!(text(&end["fault"]["step"]).contains("RUN echo about to fail"), "{end}");
    assert!(end["fault"]["log_tail"].to_string().contains("about to fail"), "{end}");
    let shown = lian(&project, &["apply"]).exits(1);
    let all = format!("{}{}", shown.stdout, shown.stderr);
    assert!(all.contains("tool") && all.contains("app") && all.contains("lian-build logs"), "{all}");
    let logs = lian(&project, &["logs", "latest", "tool"]).exits(0);
    assert!(logs.stdout.contains("about to fail"), "{}", logs.both());
    let runs = lian(&project, &["runs", "--format", "json"]).exits(0);
    assert!(runs.stdout.contains("failure"), "{}", runs.both());
}

#[test]
fn an_image_without_a_shell_is_searched_all_the_same() {
    let project = Project::with_base();
    project.layer("base", BASE, "FROM base.example/busybox:1\nRUN cp /bin/busybox /hello\n");
    let bare = "FROM lamina/base AS made\nFROM scratch\nENV PATH=/opt/bin\nCOPY --from=made /hello /opt/bin/hello\n";
    project.layer("bare", "  build_base = \"base\",\n  tools_provided = [\"hello\"],", bare);
    apply(&project, &[]).exits(0);
    project.layer("bare", "  build_base = \"base\",\n  tools_provided = [\"hello\", \"absent\"],", bare);
    let ran = apply(&project, &[]).exits(1);
    let events = ran.events();
    let end = events.iter().find(|event| event["layer"] == "bare" && event["type"] == "step.finished").expect("an end");
    assert!(text(&end["fault"]["message"]).contains("absent"), "{end}");
}

#[test]
fn artifacts_are_an_image_of_their_own() {
    let project = family();
    project.layer(
        "app",
        "  build_base = \"base\",\n  build_inputs = [\"tool\"],",
        "FROM lamina/base\nCOPY --from=lamina/tool-artifacts / /\nRUN greet > /said\n",
    );
    apply(&project, &[]).exits(0);
}

#[test]
fn a_context_that_moves_during_the_build_is_not_promoted() {
    let project = family();
    // The build itself waits for the change, by way of the project's folder as a second look at the same file: a slow
    // step gives the test the time between `step.started` and its end.
    project.write(
        "catalog/app/Dockerfile",
        "FROM lamina/base\nCOPY --from=lamina/tool /bin/greet /bin/greet\nCOPY src /src\nRUN sleep 3\n",
    );
    let mut child = project
        .command(&["apply", "--format", "json"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let output =
        crate::support::lines::read_until(&mut child, |line| line.contains("RUN sleep 3") && line.contains("started"));
    project.write("catalog/app/src/main.txt", "moved");
    let (code, rest) = output.drain();
    assert_eq!(code, 1, "{rest}");
    assert!(rest.contains("context_moved") && rest.contains("src/main.txt"), "{rest}");
    assert!(!project.references().iter().any(|name| name.starts_with("lamina/app")), "it was promoted");
}

#[test]
fn a_dockerfile_that_changes_during_the_build_is_not_promoted_though_it_is_ignored() {
    let project = family();
    project.write("catalog/other/.dockerignore", "Dockerfile\n");
    project.write("catalog/other/Dockerfile", "FROM base.example/busybox:1\nRUN sleep 3\n");
    let mut child = project
        .command(&["apply", "--format", "json", "--target", "other"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let output =
        crate::support::lines::read_until(&mut child, |line| line.contains("RUN sleep 3") && line.contains("started"));
    project.write("catalog/other/Dockerfile", "FROM base.example/busybox:1\nRUN echo changed\n");
    let (code, rest) = output.drain();
    assert_eq!(code, 1, "{rest}");
    assert!(rest.contains("its Dockerfile changed during the build"), "{rest}");
    assert!(project.references().is_empty(), "{:?}", project.references());
}

#[test]
fn going_back_to_what_was_built_before_moves_latest_back() {
    let project = family();
    apply(&project, &[]).exits(0);
    let first = project.digest("lamina/app:latest").expect("built");
    project.write("catalog/app/src/main.txt", "two");
    apply(&project, &[]).exits(0);
    assert_ne!(project.digest("lamina/app:latest").expect("built"), first);
    project.write("catalog/app/src/main.txt", "one");
    assert_eq!(apply(&project, &[]).exits(0).outcomes(), ["app=reused", "base=reused", "other=reused", "tool=reused"]);
    assert_eq!(project.digest("lamina/app:latest").expect("built"), first, "latest is not what the catalog says");
}

#[test]
fn what_stands_on_a_forced_layer_is_built_by_a_later_apply_too() {
    let project = family();
    project.write("catalog/base/Dockerfile", "FROM base.example/busybox:1\nRUN cat /proc/uptime > /base\n");
    apply(&project, &[]).exits(0);
    let forced = apply(&project, &["--target", "base", "--force", "base"]).exits(0);
    assert_eq!(forced.outcomes(), ["base=built"]);
    let after = plan(&project);
    // The daemon may have had the step in its cache: then the image is the same, and so is what stands on it.
    if forced.events().iter().any(|event| event["cached"] == 1) {
        assert_eq!(reasons(&after), ["base: reuse", "other: reuse", "tool: reuse", "app: reuse"]);
    } else {
        assert_eq!(reasons(&after), ["base: reuse", "other: reuse", "tool: build base", "app: build base,base"]);
    }
}

/// Removes every tag `key-…` of a layer from the project's image layout.
fn remove_key_tags(project: &Project, layer: &str) {
    let file = project.state().join("images/index.json");
    let mut index: Value = serde_json::from_slice(&std::fs::read(&file).expect("an index")).expect("JSON");
    let manifests = index["manifests"].as_array_mut().expect("manifests");
    let before = manifests.len();
    let prefix = format!("lamina/{layer}:key-");
    manifests.retain(|entry| !text(&entry["annotations"]["org.opencontainers.image.ref.name"]).starts_with(&prefix));
    assert!(manifests.len() < before, "{layer} has no such tag");
    std::fs::write(&file, index.to_string()).expect("writable");
}

#[test]
fn what_stands_on_an_image_that_is_gone_follows_the_new_one_in_the_same_run() {
    let project = family();
    project.write("catalog/base/Dockerfile", "FROM base.example/busybox:1\nRUN cat /proc/uptime > /base\n");
    apply(&project, &[]).exits(0);
    let (base, app) = (project.digest("lamina/base:latest"), project.digest("lamina/app:latest"));

    // The daemon has the step in its cache: the image comes out the same, and what stands on it stays.
    remove_key_tags(&project, "base");
    let again = apply(&project, &[]).exits(0);
    assert_eq!(again.outcomes(), ["app=reused", "base=built", "other=reused", "tool=reused"]);
    assert_eq!((project.digest("lamina/base:latest"), project.digest("lamina/app:latest")), (base, app.clone()));
    assert_eq!(plan(&project)["summary"]["build"], 0);

    // Another daemon has never seen it: the image is another one.
    remove_key_tags(&project, "base");
    let folder = crate::support::buildkitd::scratch();
    let daemon = crate::support::buildkitd::another(folder.path());
    let mut command = project.command(&["apply", "--format", "json"]);
    let again: Ran = command.env("BUILDKIT_HOST", daemon.address()).output().expect("it starts").into();
    let again = again.exits(0);
    assert_eq!(again.outcomes(), ["app=built", "base=built", "other=reused", "tool=built"]);
    assert_ne!(project.digest("lamina/app:latest"), app);
    assert_eq!(plan(&project)["summary"]["build"], 0, "right after a success: {}", plan(&project));
}

#[test]
fn two_applies_at_once_build_each_layer_once() {
    let project = family();
    project.write("catalog/base/Dockerfile", "FROM base.example/busybox:1\nRUN sleep 1; echo base > /base\n");
    let ran: Vec<Ran> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..2).map(|_| scope.spawn(|| apply(&project, &[]))).collect();
        runs.into_iter().map(|run| run.join().expect("it ran").exits(0)).collect()
    });
    for layer in ["app", "base", "other", "tool"] {
        let built = ran.iter().filter(|ran| ran.outcomes().contains(&format!("{layer}=built"))).count();
        assert_eq!(built, 1, "{layer}: {:?} {:?}", ran[0].outcomes(), ran[1].outcomes());
    }
    assert_eq!(apply(&project, &[]).exits(0).outcomes(), ["app=reused", "base=reused", "other=reused", "tool=reused"]);
}

#[test]
fn no_daemon_is_an_outside_fault() {
    let project = family();
    let mut command = project.command(&["apply", "--format", "json"]);
    let ran: Ran = command.env("BUILDKIT_HOST", "tcp://127.0.0.1:1").output().expect("it starts").into();
    let last = ran.exits(4).events().pop().expect("events");
    assert_eq!((text(&last["type"]), text(&last["outcome"])), ("run.finished", "failure"));
}

#[test]
fn a_secret_without_a_value_stops_only_what_is_built() {
    let project = Project::with_base();
    let fields = format!("{BASE}\n  secrets = [{{ id = \"token\", env = \"TEST_TOKEN\", required = true }}],");
    let dockerfile = "FROM base.example/busybox:1\nRUN --mount=type=secret,id=token cat /run/secrets/token > /dev/null && echo \"was $(cat /run/secrets/token)\" && echo made > /made\n";
    project.layer("base", &fields, dockerfile);
    lian(&project, &["plan"]).exits(0);
    let ran = apply(&project, &[]).exits(64);
    assert!(ran.both().contains("TEST_TOKEN"), "{}", ran.both());
    let mut command = project.command(&["apply", "--format", "json"]);
    let ran: Ran = command.env("TEST_TOKEN", "planted-secret-value").output().expect("it starts").into();
    let ran = ran.exits(0);
    assert!(!ran.stdout.contains("planted-secret-value") && ran.stdout.contains("was ***"), "{}", ran.both());
    let found = std::process::Command::new("grep")
        .args(["-rl", "planted-secret-value"])
        .args([project.path(), project.data()])
        .output()
        .expect("grep");
    assert!(found.stdout.is_empty(), "planted in {}", String::from_utf8_lossy(&found.stdout));
    apply(&project, &[]).exits(0);
}

#[test]
fn an_image_for_two_platforms_is_verified_on_both() {
    let project = Project::with_base();
    project.layer("base", BASE, "FROM base.example/busybox:1\nRUN echo base > /base\n");
    let dockerfile = "FROM --platform=$BUILDPLATFORM lamina/base AS made\nFROM scratch\nENV PATH=/bin\nCOPY --from=made /bin/busybox /bin/sh\n";
    let fields = |tool: &str| {
        format!(
            "  build_base = \"base\",\n  platforms = [\"linux/amd64\", \"linux/386\"],\n  tools_provided = [\"{tool}\"],\n  artifact_paths = [\"/bin/sh\"],"
        )
    };
    project.layer("both", &fields("sh"), dockerfile);
    assert_eq!(apply(&project, &[]).exits(0).outcomes(), ["base=built", "both=built"]);
    assert_eq!(apply(&project, &[]).exits(0).outcomes(), ["base=reused", "both=reused"]);
    project.layer("both", &fields("absent"), dockerfile);
    let ran = apply(&project, &[]).exits(1);
    assert!(ran.stdout.contains("the image lacks `absent`"), "{}", ran.both());
}

#[test]
fn events_that_cannot_be_written_are_told_and_the_run_goes_on() {
    let project = Project::with_base();
    project.layer("base", BASE, "FROM base.example/busybox:1\nRUN true\n");
    let told = |force: bool, stdout: Stdio| {
        let mut command = project.command(&["apply", "--format", "json"]);
        if force {
            command.args(["--force", "base"]);
        }
        let ran: Ran = command.stdout(stdout).stderr(Stdio::piped()).output().expect("it starts").into();
        let ran = ran.exits(4);
        assert_eq!(ran.stderr.matches("lian::cli::output").count(), 1, "{}", ran.both());
        let runs = project.lian(&["runs", "--format", "json"]).exits(0).json();
        assert_eq!(
            (text(&runs["runs"][0]["state"]), runs["runs"][0]["built"].as_u64()),
            ("success", Some(1)),
            "{runs}"
        );
    };
    let full = || std::fs::File::options().write(true).open("/dev/full").expect("a full disk");
    told(false, full().into());
    let (reader, closed) = std::io::pipe().expect("a pipe");
    drop(reader);
    told(true, closed.into());
    // A person's summary is a result, too.
    let ran: Ran = project.command(&["apply", "--force", "base"]).stdout(full()).output().expect("it starts").into();
    assert!(ran.exits(4).stderr.contains("lian::cli::output"));
    // What fails by itself keeps its own code.
    project.write("catalog/base/Dockerfile", "FROM base.example/busybox:1\nRUN false\n");
    let ran: Ran = project.command(&["apply", "--format", "json"]).stdout(full()).output().expect("it starts").into();
    ran.exits(1);
}
