//! Daemons that build for another platform than the place is there for: told before anything is built there, and not as a
//! fault of the layer.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use serde_json::Value;
use tempfile::TempDir;

use crate::runners::{SESSION, project_on};
use crate::support::buildkitd::{binaries, stage};
use crate::support::project::{Project, Ran, text};
use crate::support::sandbox::{Sandbox, key_pair};

const BASE: &str = "  build_base = { image = \"base.example/busybox:1\" },";
const CODE: &str = "lian::buildkit::other_platform";
const OTHER: &str = if cfg!(target_arch = "aarch64") { "linux/amd64" } else { "linux/arm64" };

/// BuildKit's programs, with a buildctl to which every daemon says that it builds for s390x alone, as one there would.
fn foreign() -> TempDir {
    let (real, folder) = (binaries().buildctl, tempfile::tempdir().expect("a folder"));
    let workers = r#"[{"platforms":[{"os":"linux","architecture":"s390x"}]}]"#;
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *'debug workers'*) echo '{workers}' ;; *) exec {} \"$@\" ;; esac\n",
        real.display()
    );
    std::fs::write(folder.path().join("buildctl"), script).expect("writable");
    std::fs::set_permissions(folder.path().join("buildctl"), Permissions::from_mode(0o755)).expect("ours");
    symlink(real.with_file_name("buildkitd"), folder.path().join("buildkitd")).expect("a link");
    folder
}

/// The only fault of a run's steps.
#[track_caller]
fn fault(ran: &Ran) -> Value {
    let events = ran.events();
    let end = events.iter().find(|event| event["type"] == "step.finished");
    end.unwrap_or_else(|| panic!("{}", ran.both()))["fault"].clone()
}

#[test]
fn a_named_daemon_of_another_platform_is_told_before_anything_is_built() {
    let foreign = foreign();
    let project = Project::with_base();
    project.layer("app", BASE, "FROM base.example/busybox:1\nRUN true\n");
    let with = |arguments: &[&str]| -> Ran {
        let mut command = project.command(arguments);
        command.env("BUILDKIT_HOST", stage().daemon.address()).env("LIAN_BUILDKIT_BIN", foreign.path());
        command.output().expect("the binary starts").into()
    };
    let ran = with(&["apply", "--format", "json"]).exits(4);
    let fault = fault(&ran);
    assert_eq!((text(&fault["code"]), text(&fault["kind"])), (CODE, "unavailable"), "{}", ran.both());
    assert!(text(&fault["message"]).contains("builds for linux/s390x only"), "{fault}");
    assert!(ran.events().iter().all(|event| event["type"] != "step.progress"), "it was built: {}", ran.both());
    let told = with(&["doctor", "--format", "json"]).json();
    let findings = told["findings"].as_array().expect("findings");
    let daemon = findings.iter().find(|finding| finding["name"] == "daemon").expect("a finding");
    assert_eq!(text(&daemon["state"]), "missing", "{daemon}");
    assert!(text(&daemon["detail"]).contains("builds for linux/s390x only"), "{daemon}");
}

#[test]
fn a_host_of_another_platform_than_the_workflow_says_is_told_and_passed_over() {
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let host = Sandbox::with(&public, 2, 4);
    let project = project_on(&[(&host, 2, 4)], &key, SESSION);
    let path = project.path().join("workflows/local.ncl");
    let workflow = std::fs::read_to_string(&path).expect("a workflow");
    let own = format!("linux/{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" });
    std::fs::write(&path, workflow.replace(&own, OTHER)).expect("writable");
    project.layer("app", BASE, "FROM base.example/busybox:1\nRUN true\n");
    let ran = project.lian(&["apply", "--format", "json"]).exits(4);
    let fault = fault(&ran);
    assert_eq!(text(&fault["code"]), CODE, "{}", ran.both());
    assert!(text(&fault["message"]).contains(&format!("is there for {OTHER}")), "{fault}");
    assert!(ran.events().iter().all(|event| event["type"] != "lease.granted"), "it was leased: {}", ran.both());
    let told = project.lian(&["doctor", "--format", "json", "--workflow", "workflows/local.ncl"]).json();
    let findings = told["findings"].as_array().expect("findings");
    let found = findings.iter().find(|finding| finding["name"] == host.address.to_string()).expect("a finding");
    assert!(text(&found["detail"]).contains(&format!("and the workflow says {OTHER}")), "{found}");
}
