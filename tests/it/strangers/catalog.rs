//! A clone whose catalog is somebody else's: by a link, or by the dots of its workflow. What the user granted there is not
//! for what the clone says, and nothing is read or written there.

use std::os::unix::fs::symlink;

use super::{Canary, contents};
use crate::support::project::Project;

const BASE: &str = "  build_base = { image = \"base.example/busybox:1\" },";
const DOCKERFILE: &str = "FROM base.example/busybox:1\nCOPY . /c/\n";

/// Another project of the user's.
fn other() -> Project {
    let other = Project::with_base();
    other.layer("theirs", BASE, DOCKERFILE);
    other
}

const COMMANDS: [&[&str]; 6] = [&["check"], &["plan"], &["apply"], &["update"], &["leases"], &["trust", "--yes"]];

/// Every command refuses the catalog, and the other project stays as it is.
fn is_refused(project: &Project, other: &Project) {
    let before = contents(other.path());
    for arguments in COMMANDS {
        let said = project.lian(arguments).exits(64).both();
        assert!(said.contains("lian::project::catalog_outside") && said.contains("--catalog"), "{arguments:?}: {said}");
        assert!(!said.contains("theirs"), "{arguments:?}: {said}");
    }
    assert_eq!(contents(other.path()), before);
    assert!(!project.state().join("images").exists(), "something was built");
}

#[test]
fn a_catalog_that_is_a_link_to_another_project_is_refused_unless_its_user_names_it() {
    let canary = Canary::new();
    let (project, other) = (Project::with_base(), other());
    let target = other.path().join("catalog");
    symlink(&target, project.path().join("catalog")).expect("a link");
    is_refused(&project, &other);
    let named = target.display().to_string();
    for catalog in ["catalog", &named] {
        project.lian(&["check", catalog]).exits(0);
    }
    canary.is_whole("commands in another catalog");
}

#[test]
fn a_workflow_leads_to_no_catalog_outside_its_project() {
    let (project, other) = (Project::with_base(), other());
    let target = other.path().join("catalog").display().to_string();
    let up = "../".repeat(12);
    for catalog in [target.clone(), format!("{up}{}", target.trim_start_matches('/'))] {
        let text = format!(
            "let {{ Workflow, .. }} = import \"schemas/workflow.ncl\" in\n{{ catalog = \"{catalog}\" }} | Workflow\n"
        );
        project.write("workflows/local.ncl", &text);
        is_refused(&project, &other);
    }
}

#[test]
fn a_link_to_a_catalog_that_stays_in_its_project_is_followed() {
    let project = Project::with_base();
    project.write("images/catalog/app/Dockerfile", DOCKERFILE);
    project.layer("app", BASE, DOCKERFILE);
    std::fs::rename(
        project.path().join("catalog/app/workflow.ncl"),
        project.path().join("images/catalog/app/workflow.ncl"),
    )
    .expect("moved");
    std::fs::remove_dir_all(project.path().join("catalog")).expect("removed");
    symlink("images/catalog", project.path().join("catalog")).expect("a link");
    project.lian(&["check"]).exits(0);
    assert_eq!(project.lian(&["apply", "--format", "json"]).exits(0).outcomes(), ["app=built"]);
}
