//! `dispatch`: one Dockerfile without a catalog, here and on a host.

use crate::runners::{SESSION, project_on};
use crate::support::project::{Project, text};
use crate::support::registry::Registry;
use crate::support::sandbox::{Sandbox, key_pair};

#[test]
fn any_project_with_a_dockerfile_is_built_and_reused() {
    let project = Project::with_base();
    project.write("api/Dockerfile", "FROM base.example/busybox:1 AS made\nARG WORD\nRUN echo $WORD > /word\nFROM scratch\nCOPY --from=made /word /word\n");
    let arguments =
        ["dispatch", "--context", "api", "--image", "acme/api", "--build-arg", "WORD=one", "--format", "json"];
    let first = project.lian(&arguments).exits(0);
    assert_eq!(first.outcomes(), ["api=built"]);
    assert!(project.references().contains(&"acme/api:latest".to_owned()), "{:?}", project.references());
    assert_eq!(project.lian(&arguments).exits(0).outcomes(), ["api=reused"]);
    let mut forced = arguments.to_vec();
    forced.push("--force");
    assert_eq!(project.lian(&forced).exits(0).outcomes(), ["api=built"]);
    assert!(!project.path().join("api/lian.lock").exists(), "a lock was written into the context");
}

#[test]
fn what_stands_on_nothing_is_built_too() {
    let project = Project::with_base();
    project.write("Dockerfile", "FROM scratch\nCOPY Dockerfile /Dockerfile\n");
    let ran = project.lian(&["dispatch", "--image", "acme/files", "--format", "json"]).exits(0);
    assert_eq!(ran.outcomes(), ["files=built"]);
}

#[test]
fn another_size_builds_nothing_anew() {
    let project = Project::with_base();
    project.write(
        "Dockerfile",
        "FROM base.example/busybox:1\nCOPY . /all\nRUN [ ! -e /all/.build-spec.ncl ] && [ -e /all/kept ]\n",
    );
    project.write("kept", "x").write(".build-spec.ncl", "{ cpu = 2, memory_gb = 4 }");
    let arguments = ["dispatch", "--image", "acme/sized", "--format", "json"];
    assert_eq!(project.lian(&arguments).exits(0).outcomes(), ["sized=built"]);
    project.write(".build-spec.ncl", "{ cpu = 4, memory_gb = 8 }");
    assert_eq!(project.lian(&arguments).exits(0).outcomes(), ["sized=reused"]);
}

#[test]
fn without_git_the_project_is_where_one_stands() {
    let project = Project::with_base();
    std::fs::remove_dir(project.path().join(".git")).expect("removable");
    project.write("app/Dockerfile", "FROM base.example/busybox:1\nRUN true\n");
    project.lian(&["dispatch", "--context", "app", "--image", "acme/app"]).exits(0);
    let runs = project.lian(&["runs", "--format", "json"]).exits(0).json();
    assert_eq!(runs["runs"].as_array().map(Vec::len), Some(1), "{runs}");
    let none = project.lian(&["dispatch", "--context", "app", "--dockerfile", "nope"]).exits(64);
    assert!(none.stderr.contains("there is no such file") && none.stderr.contains("--dockerfile"), "{}", none.both());
}

#[test]
fn a_host_builds_it_with_its_secret_and_keeps_nothing() {
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let host = Sandbox::with(&public, 4, 8);
    let project = project_on(&[(&host, 4, 8)], &key, SESSION);
    project.write(
        "Dockerfile",
        "FROM base.example/busybox:1\nCOPY . /all\nRUN [ ! -e /all/.lian ] && [ -e /all/Dockerfile ]\nRUN --mount=type=secret,id=token cat /run/secrets/token | head -c 3 > /first\n",
    );
    // Of an earlier version, or somebody's own: it is part of no build.
    project.write(".lian/base/oci-layout", "{}");
    let mut command = project.command(&[
        "dispatch",
        "--workflow",
        "workflows/local.ncl",
        "--image",
        "acme/tool",
        "--secret",
        "id=token,env=THE_TOKEN",
        "--format",
        "json",
    ]);
    let ran: crate::support::project::Ran =
        command.env("THE_TOKEN", "s3cr3t-value").output().expect("it starts").into();
    let ran = ran.exits(0);
    let end = ran.events().into_iter().find(|event| event["type"] == "step.finished").expect("an end");
    assert_eq!(text(&end["runner_type"]), host.address.to_string(), "{end}");
    assert!(!ran.both().contains("s3cr3t-value"), "the secret was told");
    let left = host.run("grep -rls s3cr3t-value /run/lian* /tmp /workspace /root 2>/dev/null");
    assert_eq!(left.trim(), "");
}

#[test]
fn a_whole_reference_says_where_the_image_goes_and_under_which_tag() {
    let registry = Registry::start();
    let project = Project::with_base();
    project.write("Dockerfile", "FROM base.example/busybox:1\nRUN echo api > /api\n");
    let dispatch = |image: &str, more: &[&str]| {
        let mut arguments = vec!["dispatch", "--image", image, "--format", "json"];
        arguments.extend(more);
        project.lian(&arguments)
    };
    let whole = format!("{}/team/api", registry.address());
    let first = dispatch(&format!("{whole}:v1.2"), &["--plain-http"]).exits(0);
    assert_eq!(first.outcomes(), ["api=built"]);
    let tags = registry.tags("team/api");
    assert!(tags.len() == 4 && tags[0].starts_with("key-") && tags[2..] == ["latest", "v1.2"], "{tags:?}");
    assert_eq!(registry.digest("team/api", "v1.2"), registry.digest("team/api", "latest"));
    assert!(!project.state().join("images").exists(), "a layout was made");
    // Another tag for what is there already.
    assert_eq!(dispatch(&format!("{whole}:v1.3"), &["--plain-http"]).exits(0).outcomes(), ["api=reused"]);
    assert_eq!(registry.digest("team/api", "v1.3"), registry.digest("team/api", "latest"));
    // Below a prefix of the registry; a tag that fails moves nothing.
    let prefix = format!("{}/prefix", registry.address());
    dispatch("acme/api", &["--registry", &prefix, "--plain-http"]).exits(0);
    assert!(registry.tags("prefix/acme/api").contains(&"latest".to_owned()));
    project.write("Dockerfile", "FROM base.example/busybox:1\nRUN false\n");
    dispatch(&format!("{whole}:v2"), &["--plain-http"]).exits(1);
    assert!(!registry.tags("team/api").contains(&"v2".to_owned()));

    let torn = dispatch(&whole, &["--registry", "other.example"]).exits(64);
    assert!(torn.stdout.contains("lian::cli::two_registries"), "{}", torn.both());
    let scheme = dispatch("acme/api", &["--registry", "http://registry.example"]).exits(64);
    assert!(
        scheme.stdout.contains("lian::cli::registry") && scheme.stdout.contains("--plain-http"),
        "{}",
        scheme.both()
    );
    let nothing = dispatch("acme/api", &["--plain-http"]).exits(64);
    assert!(nothing.stdout.contains("lian::cli::no_registry"), "{}", nothing.both());
    let short = dispatch(&format!("{}/api", registry.address()), &[]).exits(64);
    assert!(short.stdout.contains("namespace"), "{}", short.both());
}

#[test]
fn wrong_words_are_told_with_the_way_out() {
    let project = Project::with_base();
    project.write("Dockerfile", "FROM base.example/busybox:1\n");
    let name = project.lian(&["dispatch", "--image", "UPPER"]).exits(64);
    assert!(name.stderr.contains("lian::cli::image_name") && name.stderr.contains("help:"), "{}", name.both());
    let context = project.lian(&["dispatch", "--context", "absent"]).exits(64);
    assert!(context.stderr.contains("--context"), "{}", context.both());
    let host = project.lian(&["dispatch", "--provider", "ssh", "--context-transfer", "session"]).exits(64);
    assert!(host.stderr.contains("providers.ssh.hosts"), "{}", host.both());
    let size = project.lian(&["dispatch", "--runner-type", "cax13"]).exits(64);
    assert!(size.stderr.contains("cax11"), "{}", size.both());
}
