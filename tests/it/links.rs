//! Links in the way to what a build reads: key, `check` and build follow them alike, or `check` refuses them.

use std::os::unix::fs::symlink;

use crate::support::project::{Project, Ran};

const BASE: &str = "  build_base = { image = \"base.example/busybox:1\" },\n  context = \"../../services/app\",";
const COPIES: &str = "FROM base.example/busybox:1\nCOPY . /c/\nRUN [ ! -e /c/private.txt ] && [ -f /c/public.txt ]\n";

/// `app`, whose context is `services/app`, with a public and a private file and no Dockerfile yet.
fn project() -> Project {
    let project = Project::with_base();
    project.layer("app", BASE, "");
    std::fs::remove_file(project.path().join("catalog/app/Dockerfile")).expect("gone");
    project.write("services/app/private.txt", "v1").write("services/app/public.txt", "v1");
    project
}

fn link(project: &Project, target: &str, path: &str) {
    let path = project.path().join(path);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
    symlink(target, path).expect("a link");
}

fn apply(project: &Project) -> Ran {
    project.lian(&["apply", "--format", "json"])
}

/// Builds, and tells a change of the private file apart from one of the public file.
#[track_caller]
fn private_is_left_out(project: &Project) {
    project.lian(&["check"]).exits(0);
    assert_eq!(apply(project).exits(0).outcomes(), ["app=built"]);
    project.write("services/app/private.txt", "v2");
    assert_eq!(apply(project).exits(0).outcomes(), ["app=reused"]);
    project.write("services/app/public.txt", "v2");
    assert_eq!(apply(project).exits(0).outcomes(), ["app=built"]);
}

#[test]
fn an_ignore_file_is_followed_through_the_project() {
    for (target, path) in [
        ("../../common.dockerignore", "services/app/.dockerignore"),
        ("../../common.dockerignore", "services/app/Dockerfile.dockerignore"),
        ("first", "services/app/.dockerignore"),
    ] {
        let project = project();
        project.write("services/app/Dockerfile", COPIES).write("common.dockerignore", "private.txt\n");
        link(&project, target, path);
        link(&project, "../../common.dockerignore", "services/app/first");
        private_is_left_out(&project);
        // What the link leads to is part of the key.
        project.write("common.dockerignore", "private.txt\n# another\n");
        assert_eq!(apply(&project).exits(0).outcomes(), ["app=built"], "{path}");
    }
}

#[test]
fn a_dockerfile_is_followed_through_the_project() {
    let project = project();
    project.write("common/Dockerfile", COPIES).write("services/app/.dockerignore", "private.txt\n");
    link(&project, "../../common/Dockerfile", "services/app/Dockerfile");
    private_is_left_out(&project);
    project.write("common/Dockerfile", &COPIES.replace("RUN", "RUN true &&"));
    assert_eq!(apply(&project).exits(0).outcomes(), ["app=built"]);
    // An absolute link is no other.
    std::fs::remove_file(project.path().join("services/app/Dockerfile")).expect("gone");
    link(&project, &project.path().join("common/Dockerfile").display().to_string(), "services/app/Dockerfile");
    assert_eq!(apply(&project).exits(0).outcomes(), ["app=built"], "the link itself is copied, too");
}

#[test]
fn a_context_is_found_through_links_as_the_kernel_finds_it() {
    // The context itself, a folder above it, and a `..` behind a link.
    for context in ["../../link", "../../above/app", "../../there/../app"] {
        let project = project();
        project.layer("app", &BASE.replace("../../services/app", context), "");
        project.write("services/app/Dockerfile", COPIES).write("services/app/.dockerignore", "private.txt\n");
        project.write("services/other/x", "x");
        link(&project, "services/app", "link");
        link(&project, "services", "above");
        link(&project, "services/other", "there");
        private_is_left_out(&project);
    }
}

#[test]
fn what_leads_out_of_the_project_or_nowhere_is_refused_by_check_and_apply_alike() {
    let outside = tempfile::tempdir().expect("a folder");
    std::fs::write(outside.path().join("ignore"), "private.txt\n").expect("writable");
    let ignore = outside.path().join("ignore").display().to_string();
    for (target, code) in [(ignore.as_str(), "lian::context::outside"), ("nowhere", "lian::context::dangling")] {
        for name in [".dockerignore", "Dockerfile.dockerignore"] {
            let project = project();
            project.write("services/app/Dockerfile", COPIES);
            link(&project, target, &format!("services/app/{name}"));
            for command in ["check", "plan", "apply"] {
                let ran = project.lian(&[command]).exits(1);
                assert!(ran.both().contains(code), "{command} {name}: {}", ran.both());
            }
            assert!(!project.state().join("images").exists(), "something was built");
        }
    }
}

#[test]
fn a_pattern_that_is_none_is_told_by_check() {
    let project = project();
    project.write("services/app/Dockerfile", COPIES).write("services/app/.dockerignore", "fine\n[\n");
    let ran = project.lian(&["check"]).exits(1).both();
    assert!(ran.contains("lian::context::ignore_pattern") && ran.contains("line 2"), "{ran}");
}
