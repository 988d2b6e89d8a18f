//! Where layers are built by what the command line and build specifications say. Not responsible for: building on any of it.

use std::sync::Arc;

use serde_json::Value;

use crate::support::hetzner::{Fake, Invented, TOKEN};
use crate::support::project::{Project, Ran, text};

const BASE: &str = "  build_base = { image = \"base.example/busybox:1\" },";

/// A project on a cloud with arm64 first, and amd64 too.
fn mixed() -> (Fake, Project) {
    let project = Project::with_base();
    project.write(
        "workflows/local.ncl",
        "let { Workflow, .. } = import \"schemas/workflow.ncl\" in\n{ catalog = \"../catalog\", compute_provider = \
         'hcloud, providers.hcloud = { prepared = true, image = \"debian-13\", server_types = [\"cax11\", \"cax21\", \
         \"cpx11\", \"cpx31\"] }, runners.context_transfer = 'session } | Workflow\n",
    );
    (Fake::start(Arc::new(Invented::default())), project)
}

fn plan(fake: &Fake, project: &Project, more: &[&str]) -> Ran {
    let format: &[&str] = if more.contains(&"--format") { &["plan"] } else { &["plan", "--format", "json"] };
    let mut command = project.command(format);
    command.args(more).env("HCLOUD_TOKEN", TOKEN).env("HCLOUD_ENDPOINT", fake.endpoint());
    command.output().expect("it starts").into()
}

/// Runner type and key of a layer.
fn of<'a>(plan: &'a Value, layer: &str) -> (&'a str, &'a str) {
    let layers = plan["layers"].as_array().expect("layers");
    let found = layers.iter().find(|found| found["name"] == layer).expect("the layer");
    (text(&found["size"]["runner_type"]), text(&found["key"]))
}

#[test]
fn a_runner_type_that_is_named_decides_the_platform() {
    let (fake, project) = mixed();
    project.layer("base", BASE, "FROM base.example/busybox:1\nARG TARGETARCH\nRUN echo $TARGETARCH\n");
    project.layer("app", "  build_base = \"base\",", "FROM lamina/base\nRUN true\n");
    let first = plan(&fake, &project, &[]).exits(0).json();
    assert_eq!((of(&first, "base").0, of(&first, "app").0), ("cax11", "cax11"), "{first}");

    project.write("catalog/base/.build-spec.ncl", "{ runner_type = \"cpx31\" }");
    let moved = plan(&fake, &project, &[]).exits(0).json();
    assert_eq!(of(&moved, "base").0, "cpx31", "{moved}");
    assert_eq!(
        of(&moved, "app").0,
        "cpx31",
        "what stands on it goes with it, and cpx11 has too little memory: {moved}"
    );
    assert_ne!(of(&moved, "base").1, of(&first, "base").1, "the platform is part of the key");

    project.write("catalog/base/.build-spec.ncl", "{ runner_type = \"cax21\" }");
    let same = plan(&fake, &project, &[]).exits(0).json();
    assert_eq!((of(&same, "base").0, of(&same, "app").0), ("cax21", "cax11"), "{same}");

    project.write("catalog/app/.build-spec.ncl", "{ runner_type = \"cpx31\" }");
    let torn = plan(&fake, &project, &[]).exits(64);
    assert!(torn.stdout.contains("lian::cli::platforms") && torn.stdout.contains("`base`"), "{}", torn.both());

    project.write("catalog/app/.build-spec.ncl", "{}");
    project.layer(
        "base",
        &format!("{BASE}\n  platforms = [\"linux/amd64\"],"),
        "FROM base.example/busybox:1\nRUN true\n",
    );
    let refused = plan(&fake, &project, &["--target", "base"]).exits(64);
    assert!(refused.stdout.contains("lian::sizing::other_platform"), "{}", refused.both());
}

#[test]
fn numbers_beyond_the_tiers_are_the_offers_business() {
    let (fake, project) = mixed();
    project.layer("base", BASE, "FROM base.example/busybox:1\nRUN true\n");
    project.write("catalog/base/.build-spec.ncl", "{ cpu = 4, memory_gb = 8 }");
    assert_eq!(of(&plan(&fake, &project, &[]).exits(0).json(), "base").0, "cax21");
    // A tier and its alias are sizes: the smallest offer that is as large has them.
    for name in ["medium", "cax21", "large", "cax31"] {
        project.write("catalog/base/.build-spec.ncl", &format!("{{ runner_type = \"{name}\" }}"));
        let large = ["large", "cax31"].contains(&name);
        let answer = plan(&fake, &project, &[]);
        match large {
            false => assert_eq!(of(&answer.exits(0).json(), "base").0, "cax21", "{name}"),
            true => assert!(answer.exits(4).stdout.contains("8 CPUs and 16 GB"), "{name}"),
        }
    }
    project.write("catalog/base/.build-spec.ncl", "{ cpu = 48, memory_gb = 192 }");
    let none = plan(&fake, &project, &[]).exits(4);
    assert!(none.stdout.contains("48 CPUs and 192 GB") && none.stdout.contains("cpx31 (4 CPUs"), "{}", none.both());
    // This host is as large as it is.
    plan(&fake, &project, &["--provider", "local"]).exits(0);
}

#[test]
fn the_command_line_wins_over_the_workflow() {
    let (fake, project) = mixed();
    project.layer("base", BASE, "FROM base.example/busybox:1\nRUN true\n");
    let rented = plan(&fake, &project, &[]).exits(0).json();
    assert!(rented["forecast"]["leases"] == 1, "{rented}");
    let text = plan(&fake, &project, &["--format", "text"]).exits(0).stdout;
    let last = text.lines().last().expect("lines");
    let told =
        "1 to build, 0 to reuse · at least 45s on 1 runner · at least €0.01 (1 started hour) · 1 not built before";
    assert_eq!(last, format!("{told} · lian-build apply"));
    let here = plan(&fake, &project, &["--provider", "local"]).exits(0).json();
    assert!(here.get("forecast").is_none(), "{here}");
    let refused = plan(&fake, &project, &["--context-transfer", "rsync"]).exits(64);
    assert!(refused.stdout.contains("lian::cli::needs_registry"), "{}", refused.both());
    let built = project.lian(&["apply", "--provider", "local", "--format", "json"]).exits(0);
    assert_eq!(built.outcomes(), ["base=built"]);
    assert!(fake.bills().is_empty());
}

#[test]
fn a_layout_for_one_command_does_not_send_a_runner_that_pushes_to_it() {
    let (fake, project) = mixed();
    project.layer("base", BASE, "FROM base.example/busybox:1\nRUN true\n");
    let workflow = std::fs::read_to_string(project.path().join("workflows/local.ncl")).expect("a workflow");
    let pushing = "context_transfer = 'rsync, registry_provider = 'registry, \
                   registry = { address = \"127.0.0.1:1/team\", plain_http = true }";
    project.write("workflows/local.ncl", &workflow.replace("context_transfer = 'session", pushing));
    let refused = |ran: Ran, named: &str| {
        let ran = ran.exits(64);
        let told = ran.stdout.contains("lian::cli::needs_registry") && ran.stdout.contains(&format!("without {named}"));
        assert!(told && !ran.stdout.contains("lian::registries"), "{}", ran.both());
    };
    refused(plan(&fake, &project, &["--layout", "elsewhere"]), "--layout");
    let mut command = project.command(&["apply", "--format", "json"]);
    command.env("HCLOUD_TOKEN", TOKEN).env("HCLOUD_ENDPOINT", fake.endpoint()).env("LIAN_LAYOUT", "elsewhere");
    refused(command.output().expect("it starts").into(), "LIAN_LAYOUT");
    assert!(fake.bills().is_empty() && !project.path().join("elsewhere").exists());
    // Runners whose images come back here may.
    plan(&fake, &project, &["--layout", "elsewhere", "--context-transfer", "session"]).exits(0);
    plan(&fake, &project, &["--layout", "elsewhere", "--provider", "local"]).exits(0);
}
