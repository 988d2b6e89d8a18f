//! Caches in a registry, by namespace: a fresh daemon is served by CI's, and nobody writes what is another's.

use crate::support::buildkitd;
use crate::support::project::{Project, Ran, text};
use crate::support::registry::Registry;

/// A project whose directives keep images and caches in this registry.
fn project(registry: &Registry) -> Project {
    let project = Project::with_base();
    let place = format!(
        "workspace = \"shop\", registry_provider = 'registry, \
         registry = {{ address = \"{}\", plain_http = true }}",
        registry.address()
    );
    let body = |call: &str| format!("let D = import \"defaults/build_directives.ncl\" in\nD.{call} & {{ {place} }}\n");
    let session =
        |disposition: &str| body(&format!("make_session_build {{ actor_id = \"jpl\", disposition = '{disposition} }}"));
    project.write("ci/ci.ncl", &body("make_ci_build {}"));
    for disposition in ["export", "discard", "rollback"] {
        project.write(&format!("ci/{disposition}.ncl"), &session(disposition));
    }
    project.write("Dockerfile", "FROM base.example/busybox:1\nRUN echo one > /one\nRUN echo two > /two\n");
    project
}

/// `dispatch` with a user, a state and a daemon that have seen nothing yet.
fn fresh(project: &Project, directives: &str) -> Ran {
    let data = buildkitd::scratch();
    let file = format!("ci/{directives}.ncl");
    let mut command = project.command(&["dispatch", &file, "--force", "--format", "json"]);
    command.env_remove("BUILDKIT_HOST").env("LIAN_DATA_DIR", data.path()).env("LIAN_DAEMON_IDLE", "1s");
    command.output().expect("it starts").into()
}

/// How many steps an image had that was built so, and how many of them came from a cache.
#[track_caller]
fn steps(project: &Project, directives: &str) -> (u64, u64) {
    let events = fresh(project, directives).exits(0).events();
    let end = events.iter().find(|event| event["type"] == "step.finished").expect("an end");
    assert_eq!(text(&end["outcome"]), "built", "{end}");
    (end["steps"].as_u64().expect("a number"), end["cached"].as_u64().expect("a number"))
}

#[test]
fn cis_cache_serves_fresh_daemons_and_a_session_writes_its_own() {
    let registry = Registry::start();
    let project = project(&registry);
    assert_eq!(steps(&project, "ci"), (2, 0));
    assert_eq!(registry.tags("ci/shop/shop-cache"), ["latest", "next"]);
    let cis = registry.digest("ci/shop/shop-cache", "latest");
    assert_eq!(steps(&project, "ci"), (2, 2));
    // A session begins with what CI has, and keeps what it writes to itself.
    assert_eq!(steps(&project, "discard"), (2, 2));
    assert_eq!(registry.tags("dev/jpl-shop/shop-cache"), Vec::<String>::new());
    assert_eq!(steps(&project, "export"), (2, 2));
    assert_eq!(registry.tags("dev/jpl-shop/shop-cache"), ["latest", "next"]);
    assert_eq!(registry.digest("ci/shop/shop-cache", "latest"), cis);
    project.write("Dockerfile", "FROM base.example/busybox:1\nRUN echo own > /one\n");
    assert_eq!(steps(&project, "export"), (1, 0));
    assert_eq!(steps(&project, "export"), (1, 1));
    // What the session has is no cache of CI's, which does not even look there.
    let before = registry.log().len();
    assert_eq!(steps(&project, "ci"), (1, 0));
    assert!(!registry.log()[before..].contains("/dev/"), "CI looked into a session's namespace");
}

#[test]
fn a_session_that_rolls_back_leaves_what_was_there_where_its_build_fails() {
    let registry = Registry::start();
    let project = project(&registry);
    assert_eq!(steps(&project, "rollback"), (2, 0));
    let digests = || ["shop", "shop-cache"].map(|name| registry.digest(&format!("dev/jpl-shop/{name}"), "latest"));
    let good = digests();
    project.write("Dockerfile", "FROM base.example/busybox:1\nRUN echo other > /one\nRUN false\n");
    fresh(&project, "rollback").exits(1);
    assert_eq!(digests(), good);
    project.write("Dockerfile", "FROM base.example/busybox:1\nRUN echo one > /one\nRUN echo two > /two\n");
    assert_eq!(steps(&project, "rollback"), (2, 2));
}
