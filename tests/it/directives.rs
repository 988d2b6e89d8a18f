//! Directives: the documented ones as they stand, what an actor may read and write, and that it is held to it.

use crate::support::project::{Project, text};
use crate::support::registry::Registry;

const CI: &str = "let D = import \"defaults/build_directives.ncl\" in\n\
    D.make_ci_build { workspace = \"shop\", artifact = { image = \"registry/shop:%{sha}\" }, \
    cache_policy = D.ci_cache_policy, }\n";
const SESSION: &str = "let D = import \"defaults/build_directives.ncl\" in\n\
    D.make_session_build { workspace = \"shop\", actor_id = \"jpl\", disposition = 'discard, }\n";

/// A project with a Dockerfile at its root, and these directives in `ci/`.
fn project(directives: &[(&str, &str)]) -> Project {
    let project = Project::with_base();
    project.write("Dockerfile", "FROM base.example/busybox:1\nCOPY word /word\nRUN cat /word\n").write("word", "hi");
    for (name, body) in directives {
        project.write(&format!("ci/{name}.ncl"), body);
    }
    project
}

/// Directives of CI with more fields.
fn ci_with(fields: &str) -> String {
    format!(
        "let D = import \"defaults/build_directives.ncl\" in\nD.make_ci_build {{ workspace = \"shop\", {fields} }}\n"
    )
}

/// Directives of a session with more fields.
fn session_with(fields: &str) -> String {
    format!(
        "let D = import \"defaults/build_directives.ncl\" in\nD.make_session_build {{ workspace = \"shop\", {fields} }}\n"
    )
}

/// The codes and messages of what is wrong with directives.
#[track_caller]
fn faults(body: &str) -> Vec<(String, String)> {
    let project = project(&[("d", body)]);
    let told = project.lian(&["explain", "ci/d.ncl", "--format", "json"]).exits(1).json();
    let rows = told["diagnostics"].as_array().expect("rows").clone();
    // All of them are told with their place, and nothing is built by directives that are refused.
    for row in &rows {
        assert!(row["line"].is_number() && text(&row["file"]) == "ci/d.ncl", "{row}");
    }
    project.lian(&["dispatch", "ci/d.ncl"]).exits(1);
    assert_eq!(project.references(), Vec::<String>::new());
    rows.iter().map(|row| (text(&row["code"]).to_owned(), text(&row["message"]).to_owned())).collect()
}

#[test]
fn those_of_ci_build_their_image_from_the_root_of_the_project() {
    let project = project(&[("directives", CI)]);
    let told =
        project.lian(&["explain", "ci/directives.ncl", "--set", "sha=0123456", "--format", "json"]).exits(0).json();
    assert_eq!((text(&told["actor"]), text(&told["workspace"]), text(&told["provider"])), ("ci", "shop", "local"));
    assert_eq!(told["reads"], serde_json::json!(["ci/shop", "ci/lamina"]));
    assert_eq!(told["writes"], serde_json::json!(["ci/shop"]));
    assert_eq!(told["tags"], serde_json::json!(["registry/shop:0123456", "registry/shop:latest"]));
    assert_eq!(text(&told["size"]["tier"]), "language_default");
    assert_eq!(project.references(), Vec::<String>::new(), "`explain` built something");
    let ran = project.lian(&["dispatch", "ci/directives.ncl", "--set", "sha=0123456", "--format", "json"]).exits(0);
    assert_eq!(ran.outcomes(), ["shop=built"]);
    assert!(project.references().contains(&"registry/shop:0123456".to_owned()), "{:?}", project.references());
    let told = project.lian(&["explain", "ci/directives.ncl", "--set", "sha=0123456"]).exits(0);
    assert!(told.stdout.contains("reads     ci/shop, ci/lamina\n"), "{}", told.both());
}

#[test]
fn those_of_a_session_build_into_its_own_namespace() {
    let directives = session_with("actor_id = \"agent-7\", actor = 'agent, disposition = 'rollback");
    let project = project(&[("session", SESSION), ("agent", &directives)]);
    let told = |name: &str| project.lian(&["explain", name, "--format", "json"]).exits(0).json();
    let session = told("ci/session.ncl");
    assert_eq!((text(&session["actor"]), text(&session["disposition"])), ("human", "discard"));
    assert_eq!(session["reads"], serde_json::json!(["ci/shop", "ci/lamina", "dev/jpl-shop"]));
    assert_eq!(session["writes"], serde_json::json!(["dev/jpl-shop"]));
    let agent = told("ci/agent.ncl");
    // A `-` of a name is written `__`: the first `-` parts the actor from the workspace.
    assert_eq!((text(&agent["actor"]), &agent["writes"][0]), ("agent", &serde_json::json!("dev/agent__7-shop")));
    project.lian(&["dispatch", "ci/session.ncl"]).exits(0);
    assert!(project.references().contains(&"dev/jpl-shop/shop:latest".to_owned()), "{:?}", project.references());
}

#[test]
fn a_name_that_is_not_set_is_told_with_its_place_and_how_to_set_it() {
    let project = project(&[("directives", CI)]);
    let told = project.lian(&["explain", "ci/directives.ncl", "--format", "json"]).exits(1).json();
    let fault = &told["diagnostics"][0];
    assert_eq!((text(&fault["code"]), fault["line"].as_u64()), ("lian::directives::unset", Some(2)));
    assert!(text(&fault["help"]).contains("`--set sha=VALUE`"), "{fault}");
    // Names before the text move no place: the same fault, behind two names that are set.
    let two = ["explain", "ci/directives.ncl", "--set", "a=1", "--set", "b=2", "--format", "json"];
    let behind = project.lian(&two).exits(1).json();
    assert_eq!(
        (&behind["diagnostics"][0]["column"], &behind["diagnostics"][0]["line"]),
        (&fault["column"], &fault["line"])
    );
    let wrong = project.lian(&["explain", "ci/directives.ncl", "--set", "let=1", "--set", "sha=1", "--set", "sha=2"]);
    let wrong = wrong.exits(1);
    assert!(
        wrong.stderr.contains("`let` is no name") && wrong.stderr.contains("`sha` is set twice"),
        "{}",
        wrong.both()
    );
}

#[test]
fn what_lies_outside_the_actors_namespaces_is_refused_wherever_it_is_written() {
    let forbidden = |body: &str| {
        let told = faults(body);
        assert!(told.iter().all(|(code, _)| code == "lian::cache::forbidden_ref"), "{told:?}");
        told.len()
    };
    let policy = "cache_policy = { actor = 'ci, reads = [\"ci/lamina\", \"dev/jpl-shop\"], writes = [\"ci/other\"] }";
    // Each of them is told, not only the first.
    assert_eq!(forbidden(&ci_with(&format!("{policy}, artifact.image = \"dev/jpl-shop/shop\""))), 3);
    for image in ["dev/jpl-shop/shop", "r.example:5000/dev/a-b/c:x", "ci/other/app", "ci/shop/aux/app"] {
        assert_eq!(forbidden(&ci_with(&format!("artifact.image = \"{image}\""))), 1, "{image}");
    }
    for image in ["ci/shop/app", "team/app", "dev/bob-shop/app", "dev/jpl-shopping/app", "dev/jpl__x-shop/app"] {
        assert_eq!(
            forbidden(&session_with(&format!("actor_id = \"jpl\", artifact.image = \"{image}\""))),
            1,
            "{image}"
        );
    }
    for id in ["../ci", "CI", "ϲi", "a--b", "a__b", "-a", "a/b", "a b", "", &"a".repeat(64)] {
        let told = faults(&session_with(&format!("actor_id = \"{id}\"")));
        assert_eq!(told.len(), 1, "{id}");
        let code = if id.is_empty() { "lian::nickel::contract" } else { "lian::cache::forbidden_ref" };
        assert_eq!(told[0].0, code, "{id}");
    }
    assert_eq!(
        forbidden(&ci_with("libraries = [\"lamina\", \"../dev\"], build_args.BUILDKIT_CACHE_MOUNT_NS = \"x\"")),
        2
    );
    assert_eq!(faults(&session_with("artifact.image = \"dev/jpl-shop/app\""))[0].0, "lian::directives::actor_id");
    assert_eq!(faults(&ci_with("targets = [\"app\"]"))[0].0, "lian::directives::catalog");
}

#[test]
fn a_registrys_own_prefix_does_not_hide_a_namespace() {
    let registry = "registry_provider = 'registry, registry.address = \"r.example/team\"";
    for image in ["r.example/team/dev/a-b/c", "dev/a-b/c"] {
        let told = faults(&ci_with(&format!("{registry}, artifact.image = \"{image}\"")));
        assert_eq!(told[0].0, "lian::cache::forbidden_ref", "{image}");
    }
    // What is `dev/…` there would be CI's to whoever uses the registry without the prefix.
    let told = faults(&ci_with("registry_provider = 'registry, registry.address = \"r.example/ci/shop\""));
    assert_eq!(told[0].0, "lian::cache::forbidden_ref");
    let project = project(&[("session", SESSION)]);
    let refused = project.lian(&["dispatch", "ci/session.ncl", "--registry", "r.example/ci"]).exits(1);
    assert!(refused.stderr.contains("lies in a namespace of r.example"), "{}", refused.both());
}

#[test]
fn an_image_of_a_session_is_no_base_for_ci_and_is_not_asked_for() {
    let registry = Registry::start();
    let project = project(&[("directives", &ci_with(""))]);
    project.write("Dockerfile", &format!("FROM {}/dev/jpl-shop/shop:latest\nRUN true\n", registry.address()));
    let before = registry.log();
    let refused = project.lian(&["dispatch", "ci/directives.ncl"]).exits(1);
    assert!(refused.stderr.contains("lian::cache::forbidden_ref"), "{}", refused.both());
    assert!(refused.stderr.contains("may not be read by `'ci`"), "{}", refused.both());
    assert_eq!(registry.log(), before);
    let argument = ["dispatch", "ci/directives.ncl", "--build-arg", "BUILDKIT_SYNTAX=r.example/x"];
    assert!(project.lian(&argument).exits(1).stderr.contains("lian::cache::forbidden_ref"));
}

#[test]
fn actors_on_one_daemon_share_no_cache_mount_and_one_key() {
    let project = project(&[("ci", &ci_with("")), ("session", SESSION)]);
    project.write(
        "Dockerfile",
        "FROM base.example/busybox:1\nARG WHO\n\
         RUN --mount=type=cache,id=planted,target=/c ls /c; echo was-there-$(ls /c | wc -l)-$WHO; : > /c/$WHO\n",
    );
    let seen = |name: &str, who: &str| {
        let who = format!("WHO={who}");
        let file = format!("ci/{name}.ncl");
        let ran = project.lian(&["dispatch", &file, "--build-arg", &who, "--format", "json", "-v"]).exits(0);
        let log = project.lian(&["logs", "latest"]).exits(0).stdout;
        assert_eq!(ran.outcomes(), ["shop=built"]);
        // The step's own command stands in the log, too.
        let counts = log.split("was-there-").filter_map(|rest| rest.split('-').next()?.trim().parse::<u32>().ok());
        counts.last()
    };
    // A name of its own each time, so that each step runs.
    assert_eq!(seen("ci", "one"), Some(0));
    assert_eq!(seen("ci", "two"), Some(1));
    assert_eq!(seen("session", "three"), Some(0));
}

#[test]
fn directives_are_no_workflow_of_a_catalog() {
    let project = project(&[("session", SESSION)]);
    project.layer("app", "  build_base = { image = \"base.example/busybox:1\" },", "FROM base.example/busybox:1\n");
    for command in ["plan", "apply"] {
        let refused = project.lian(&[command, "--workflow", "ci/session.ncl"]).exits(64);
        assert!(refused.stderr.contains("lian-build dispatch ci/session.ncl"), "{}", refused.both());
    }
}
