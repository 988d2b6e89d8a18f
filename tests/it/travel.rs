//! Runners that build by themselves: the context by rsync, buildctl on the host, images straight to a registry.

use std::process::Stdio;

use crate::runners::project_on;
use crate::support::lines::read_until;
use crate::support::project::{Project, Ran};
use crate::support::registry::Registry;
use crate::support::sandbox::{Sandbox, key_pair, meeting_place, registry_ports};

const BASE: &str = "  build_base = { image = \"base.example/busybox:1\" },";

/// A host, a registry that both sides reach, and a project that uses them.
struct Place {
    _keys: tempfile::TempDir,
    registry: Registry,
    host: Sandbox,
    project: Project,
}

fn place() -> Place {
    let registry = Registry::everywhere();
    let address = format!("{}:{}", meeting_place(), registry.port());
    registry_ports().lock().expect("whole").push(address.clone());
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let host = Sandbox::with(&public, 4, 8);
    let more = format!(
        "runners.boot_timeout_s = 30, registry_provider = 'registry, \
         registry = {{ address = \"{address}/team\", plain_http = true }}"
    );
    let project = project_on(&[(&host, 4, 8)], &key, &more);
    Place { _keys: keys, registry, host, project }
}

#[test]
fn what_the_build_sees_is_what_would_be_seen_here_and_nothing_stays() {
    let place = place();
    let Place { registry, host, project, .. } = &place;
    project.layer("base", BASE, "FROM base.example/busybox:1\nRUN echo base > /base\n");
    project.layer(
        "app",
        "  build_base = \"base\",\n  tools_provided = [\"greet\"],\n  artifact_paths = [\"/bin/greet\"],\n  \
         secrets = [{ id = \"token\", env = \"THE_TOKEN\" }],",
        "FROM lamina/base\nCOPY . /all\n\
         RUN [ -x /all/greet ] && [ ! -x /all/plain ] && [ -L /all/link ] && [ -d /all/empty ] && [ ! -e /all/left.out ] \
         && [ ! -e /all/deep/left.out ] && [ -f '/all/deep/a b' ]\nRUN cp /all/greet /bin/greet\n\
         RUN --mount=type=secret,id=token [ \"$(cat /run/secrets/token)\" = s3cr3t-value ]\n",
    );
    project.write("catalog/app/greet", "#!/bin/sh\necho greetings 1.2.3\n").write("catalog/app/plain", "x");
    project
        .write("catalog/app/left.out", "x")
        .write("catalog/app/deep/left.out", "x")
        .write("catalog/app/deep/a b", "x");
    project.write("catalog/app/.dockerignore", "**/left.out\n");
    std::fs::create_dir(project.path().join("catalog/app/empty")).expect("writable");
    std::os::unix::fs::symlink("plain", project.path().join("catalog/app/link")).expect("writable");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(project.path().join("catalog/app/greet"), executable).expect("writable");

    let mut command = project.command(&["apply", "--format", "json"]);
    let ran: Ran = command.env("THE_TOKEN", "s3cr3t-value").output().expect("it starts").into();
    let ran = ran.exits(0);
    assert_eq!(ran.outcomes(), ["app=built", "base=built"]);
    assert!(ran.stdout.contains("sending the context"), "no progress of the transfer");
    assert!(!ran.both().contains("s3cr3t-value"), "the secret was told");
    assert!(!project.path().join(".lian/images").exists(), "images came back");
    assert_eq!(registry.tags("team/lamina/app").last().map(String::as_str), Some("latest"));
    assert!(registry.tags("team/lamina/app-artifacts").contains(&"latest".to_owned()));
    assert_eq!(host.run("ls /run/lian-build /workspace 2>/dev/null; pgrep -l buildctl").trim(), "/workspace:");
    assert_eq!(project.lian(&["apply", "--format", "json"]).exits(0).outcomes(), ["app=reused", "base=reused"]);
}

#[test]
fn a_transfer_that_breaks_goes_on_and_an_agent_travels_with_the_build() {
    let place = place();
    let Place { host, project, .. } = &place;
    project.layer(
        "base",
        &format!("{BASE}\n  ssh = [\"default\"],"),
        "FROM base.example/busybox:1\nCOPY large /large\nRUN --mount=type=ssh [ -S \"$SSH_AUTH_SOCK\" ]\n",
    );
    project.write("catalog/base/large", &"x".repeat(20_000_000));
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("agent");
    let mut agent = std::process::Command::new("ssh-agent");
    let mut agent = agent.arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().expect("ssh-agent starts");
    while !socket.exists() {
        std::thread::yield_now();
    }
    let (key, _) = key_pair(folder.path());
    let added = std::process::Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &socket).status();
    assert!(added.expect("ssh-add runs").success());
    let ran: Ran = std::thread::scope(|scope| {
        // The first rsync that appears on the host is killed.
        let killer = scope.spawn(|| host.run("timeout 30 sh -c 'until pkill -9 -x rsync; do :; done' && echo killed"));
        let mut command = project.command(&["apply", "--format", "json"]);
        let ran = command.env("SSH_AUTH_SOCK", &socket).env("RUST_LOG", "lian_build=debug").output();
        assert_eq!(killer.join().expect("it ran").trim(), "killed");
        ran.expect("it starts").into()
    });
    agent.kill().expect("killed");
    agent.wait().expect("waited for");
    let ran = ran.exits(0);
    assert!(ran.stderr.contains("rsync is tried again") && !ran.stdout.contains("step.retried"), "{}", ran.both());
}

#[test]
fn a_failure_there_is_told_as_here_and_an_interrupted_build_leaves_nothing_running() {
    let place = place();
    let Place { host, project, .. } = &place;
    project.layer("bad", BASE, "FROM base.example/busybox:1\nRUN echo about to fail && exit 3\n");
    let ran = project.lian(&["apply", "--format", "json"]).exits(1);
    let end = ran.events().into_iter().find(|event| event["type"] == "step.finished").expect("an end");
    assert_eq!(end["fault"]["evidence"], "exit code 3", "{end}");
    assert!(end["fault"]["log_tail"].to_string().contains("about to fail"), "{end}");

    project.layer("bad", BASE, "FROM base.example/busybox:1\nRUN sleep 61; true\n");
    let mut child =
        project.command(&["apply", "--format", "json"]).stdout(Stdio::piped()).spawn().expect("the binary starts");
    let reading = read_until(&mut child, |line| line.contains("RUN sleep 61") && line.contains("started"));
    assert!(host.run("pgrep -l buildctl").contains("buildctl"));
    assert!(std::process::Command::new("kill").arg(reading.id().to_string()).status().expect("kill").success());
    let (code, output) = reading.drain();
    assert_eq!(code, 130, "{output}");
    let started = std::time::Instant::now();
    while !host.run("pgrep -f '[s]leep 61|[b]uildctl'; ls -A /workspace").trim().is_empty() {
        assert!(started.elapsed().as_secs() < 20, "{}", host.run("ps ax; ls -A /workspace"));
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
