//! Whoever has Docker by its group alone: no root, no BuildKit, and a home of their own.

use std::process::{Command, Stdio};

use lian_build::domain::ports::ImageSource;

use super::{BASE, bare};
use crate::support::buildkitd;
use crate::support::docker::{Engine, engine};
use crate::support::project::{LIAN, Project, Ran};

/// Neither root nor anybody else of this machine, and the group of those who may use Docker.
const NOBODY: u32 = 65_534;
const DOCKERS: u32 = 64_999;

/// Somebody without rights, with a project, a home and programs of their own: docker, and no BuildKit.
struct Nobody {
    project: Project,
    place: tempfile::TempDir,
}

impl Nobody {
    fn new(engine: &Engine) -> Self {
        engine.admit(DOCKERS);
        let (project, place) = (Project::new(), tempfile::tempdir().expect("a folder"));
        project.layer("one", BASE, "FROM base.example/busybox:1\nRUN echo loaded > /one\n");
        let ImageSource::Layout { dir, .. } = &buildkitd::stage().base else { panic!("the base is a layout") };
        let bare = bare();
        let script = "set -e; mkdir -p \"$1/bin\" \"$1/home\"; cp -r \"$2\" \"$1/base\"; cp \"$3\" \"$1/bin/lian-build\"; \
                      cp -L \"$4/docker\" \"$1/bin/docker\"; chown -R \"$5:$5\" \"$1\" \"$6\"; chmod 711 \"$1\" \"$6\"";
        let mut prepared = Command::new("sh");
        prepared.args(["-c", script, "sh"]).args([place.path(), dir, std::path::Path::new(LIAN), bare.path()]);
        prepared.arg(NOBODY.to_string()).arg(project.path());
        assert!(prepared.status().expect("sh runs").success());
        Self { project, place }
    }

    /// Runs a command as that user, who is in the group or not.
    fn lian(&self, engine: &Engine, is_in_group: bool, arguments: &[&str]) -> Ran {
        let at = |name: &str| self.place.path().join(name);
        let groups = if is_in_group { format!("--groups={DOCKERS}") } else { "--clear-groups".to_owned() };
        let path = std::env::var_os("PATH").expect("a PATH");
        let setpriv = std::env::split_paths(&path).map(|dir| dir.join("setpriv")).find(|file| file.exists());
        let mut command = Command::new(setpriv.expect("setpriv"));
        command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), &groups]);
        command.arg(at("bin/lian-build")).args(arguments);
        if let Some("plan" | "apply") = arguments.first().copied() {
            command.arg(format!("--base-image=base.example/busybox:1=oci-layout:{}", at("base").display()));
        }
        command.current_dir(self.project.path()).env_clear().stdin(Stdio::null());
        command.env("PATH", at("bin")).env("HOME", at("home")).env("DOCKER_HOST", engine.host()).env("NO_COLOR", "1");
        command.output().expect("it starts").into()
    }
}

#[test]
fn a_user_who_is_only_in_the_group_docker_is_told_what_is_so_by_every_command() {
    let engine = engine();
    let nobody = Nobody::new(&engine);
    let lian = |arguments: &[&str]| nobody.lian(&engine, true, arguments);
    let told = lian(&["doctor"]).exits(0);
    assert!(
        told.stdout.contains("✓ BuildKit     builds run in Docker") && !told.stdout.contains('✗'),
        "{}",
        told.both()
    );
    let planned = lian(&["plan"]).exits(0);
    assert!(planned.stdout.contains("1 to build"), "{}", planned.both());
    let built = lian(&["apply", "--provider", "docker-local"]).exits(0);
    assert!(built.both().contains("1 layer: 1 built"), "{}", built.both());
    assert_eq!(lian(&["load", "one"]).exits(0).stdout, "lamina/one:latest is in docker\n");
    assert_eq!(engine.docker(&["run", "--rm", "--network=none", "lamina/one", "cat", "/one"]), "loaded");
    engine.docker(&["rmi", "lamina/one"]);
    // Nothing is built by these: nobody is told by whom.
    for (arguments, says) in [
        (&["leases"][..], "no runner is leased\n"),
        (&["leases", "gc"], "nothing to give back\n"),
        (&["leases", "--provider", "docker-local"], "no runner is leased\n"),
    ] {
        let ran = lian(arguments).exits(0);
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), (says, ""), "{arguments:?}");
    }
    let kept = lian(&["gc"]).exits(0);
    assert!(kept.stderr.is_empty() && kept.stdout.contains("images: none removed"), "{}", kept.both());
    assert!(lian(&["runs"]).exits(0).stdout.contains("success"));
    engine.is_empty();
}

#[test]
fn a_user_who_may_not_use_the_engine_is_told_so_once_and_not_that_there_is_none() {
    let engine = engine();
    let nobody = Nobody::new(&engine);
    let lian = |arguments: &[&str]| nobody.lian(&engine, false, arguments);
    let told = lian(&["doctor"]).exits(4);
    assert!(told.stdout.contains("this user may not use its engine: permission denied"), "{}", told.both());
    assert!(told.stdout.contains("add this user to the group `docker`"), "{}", told.both());
    assert_eq!(told.stdout.matches("buildctl was not found").count(), 1, "{}", told.both());
    let refused = lian(&["apply", "--provider", "docker-local"]).exits(4);
    assert!(refused.stderr.contains("no access to the Docker Engine"), "{}", refused.both());
    assert!(refused.stderr.contains("add the user to the group `docker`"), "{}", refused.both());
    // Built by whoever may, it is loaded by nobody else.
    nobody.lian(&engine, true, &["apply", "--provider", "docker-local"]).exits(0);
    let refused = lian(&["load", "one"]).exits(4);
    assert!(refused.stderr.contains("lian::engine::denied"), "{}", refused.both());
    engine.is_empty();
}
