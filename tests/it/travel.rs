//! RunnerConnector that build by themselves: the context by rsync, buildctl on the host, images straight to a registry.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::runners::project_on;
use crate::support::lines::read_until;
use crate::support::project::{Project, Ran};
use crate::support::registry::Registry;
use crate::support::sandbox::{Sandbox, key_pair, meeting_place, registry_ports};

const BASE: &str = "  build_base = { image = \"base.example/busybox:1\" },";

const REGISTRY_LOGIN: &str = "bWU6cmlnaHQ=";

/// A host, a registry that both sides reach, and a project that uses them.
pub struct Place {
    _keys: tempfile::TempDir,
    registry: Registry,
    host: Sandbox,
    pub project: Project,
}

pub fn place() -> Place {
    place_with(Registry::everywhere())
}

fn place_with(registry: Registry) -> Place {
    let address = format!("{}:{}", meeting_place(), registry.port());
    registry_ports().lock().expect("whole").insert(address.clone());
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

/// Waits until nothing of a run is left on a host: it cleans up when the connection has ended.
#[track_caller]
fn comes_clean(host: &Sandbox) {
    let started = Instant::now();
    let look = "pgrep -l 'buildctl|rsync'; ls -d /run/lian-build; ls -A /workspace /var/lib/lian-build";
    let clean = "/var/lib/lian-build:\n\n/workspace:\n";
    loop {
        let left = host.run(look);
        if left == clean {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{left}");
        std::thread::sleep(Duration::from_millis(20));
    }
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
         && [ ! -e /all/deep/left.out ] && [ -f '/all/deep/a b' ]\n\
         RUN [ -f '/all/#note' ] && [ -f '/all/;note' ] && [ -f '/all/c\\d' ] && [ -f \"/all/$(printf 'caf\\351')\" ]\nRUN cp /all/greet /bin/greet\n\
         RUN --mount=type=secret,id=token [ \"$(cat /run/secrets/token)\" = s3cr3t-value ]\n",
    );
    project.write("catalog/app/greet", "#!/bin/sh\necho greetings 1.2.3\n").write("catalog/app/plain", "x");
    project
        .write("catalog/app/left.out", "x")
        .write("catalog/app/deep/left.out", "x")
        .write("catalog/app/deep/a b", "x");
    project.write("catalog/app/#note", "x").write("catalog/app/;note", "x").write("catalog/app/c\\d", "x");
    let odd = std::os::unix::ffi::OsStrExt::from_bytes(b"caf\xe9");
    std::fs::write(project.path().join("catalog/app").join::<&std::ffi::OsStr>(odd), "x").expect("writable");
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
    assert!(!project.state().join("images").exists(), "images came back");
    assert_eq!(registry.tags("team/lamina/app").last().map(String::as_str), Some("latest"));
    assert!(registry.tags("team/lamina/app-artifacts").contains(&"latest".to_owned()));
    comes_clean(host);
    assert_eq!(project.lian(&["apply", "--format", "json"]).exits(0).outcomes(), ["app=reused", "base=reused"]);
}

#[test]
fn the_umask_of_whoever_checks_out_makes_no_difference() {
    let place = place();
    let project = &place.project;
    let is = "is() { case \"$(ls -ld \"$2\")\" in \"$1\"*) ;; *) ls -ld \"$2\"; exit 1;; esac; }";
    let dockerfile = format!(
        "FROM base.example/busybox:1\nCOPY . /all\nRUN {is}; is drwxr-xr-x /all/deep && is -rw-r--r-- /all/deep/plain && \
         is -rwxr-xr-x /all/run\n"
    );
    project.layer("base", BASE, &dockerfile);
    project.write("catalog/base/deep/plain", "x").write("catalog/base/run", "#!/bin/sh\n");
    let modes = |folder: u32, plain: u32| {
        for (path, mode) in [("deep", folder), ("deep/plain", plain), ("run", folder)] {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(project.path().join("catalog/base").join(path), mode).expect("writable");
        }
    };
    let apply = || project.lian(&["apply", "--format", "json"]).exits(0).outcomes();
    modes(0o775, 0o664);
    assert_eq!(apply(), ["base=built"]);
    modes(0o755, 0o644);
    assert_eq!(apply(), ["base=reused"]);
    // Where buildctl reads the files itself, their modes are git's already: the same key.
    let here = |more: &[&str]| project.lian(&[&["plan", "--provider", "local"], more].concat());
    here(&["--detailed-exitcode"]).exits(0);
    modes(0o700, 0o600);
    assert_eq!(apply(), ["base=reused"]);
    let plan = here(&["--detailed-exitcode"]).exits(2).both();
    assert!(plan.contains("modes changed: deep/plain (its mode)") && plan.contains("`umask 022`"), "{plan}");
    modes(0o755, 0o755);
    let plan = here(&[]).exits(0).both();
    assert!(plan.contains("context changed: deep/plain (its mode)") && !plan.contains("umask"), "{plan}");
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
    // No block of it is like another: what is sent a second time is counted.
    let large: String = (0..5_000_000_u32).map(|number| format!("{number:08}")).collect();
    project.write("catalog/base/large", &large);
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
        // It is killed when a part of the file is there.
        let part = "until [ \"$(stat -c %s /workspace/large 2>/dev/null || echo 0)\" -gt 8000000 ]; do :; done";
        let killer = format!("timeout 30 sh -c '{part}; pkill -9 -x rsync' && echo killed");
        let killer = scope.spawn(move || host.run(&killer));
        let mut command = project.command(&["apply", "--format", "json"]);
        let ran = command.env("SSH_AUTH_SOCK", &socket).env("RUST_LOG", "lian_build=debug").output();
        assert_eq!(killer.join().expect("it ran").trim(), "killed");
        ran.expect("it starts").into()
    });
    agent.kill().expect("killed");
    agent.wait().expect("waited for");
    let ran = ran.exits(0);
    assert!(ran.stderr.contains("rsync is tried again") && !ran.stdout.contains("step.retried"), "{}", ran.both());
    let sent = ran.stderr.split("rsync sent ").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("a count");
    let sent: u64 = sent.replace(',', "").parse().expect("bytes");
    assert!(sent < 33_000_000, "it began anew: {sent} of 40,000,000 bytes were sent the second time");
}

#[test]
fn two_layers_that_share_a_context_see_their_own_files() {
    let place = place();
    let Place { host, project, .. } = &place;
    project.layer(
        "one",
        BASE,
        "FROM base.example/busybox:1\nCOPY . /all\nRUN [ -f /all/hidden ] && [ -f /all/shown ]\n",
    );
    project.write("catalog/one/hidden", "x").write("catalog/one/shown", "x");
    // A file's name is no word of the runner's shell.
    project.layer(
        "two",
        "  build_base = \"one\",\n  context = \"../one\",\n  dockerfile = \"../one/o'brien $(touch owned)\",",
        "",
    );
    let file = "catalog/one/o'brien $(touch owned)";
    project.write(file, "FROM lamina/one\nCOPY . /again\nRUN [ ! -e /again/hidden ] && [ -f /again/shown ]\n");
    project.write(&format!("{file}.dockerignore"), "hidden\n");
    let ran = project.lian(&["apply", "--format", "json"]).exits(0);
    assert_eq!(ran.outcomes(), ["one=built", "two=built"]);
    assert_eq!(ran.stdout.matches("\"lease.granted\"").count(), 1, "they were not built on one lease");
    comes_clean(host);
    assert_eq!(host.run("ls -a /root | grep owned"), "", "the shell took the name for a command");
}

#[test]
fn secrets_and_the_registrys_login_are_there_for_the_build_alone() {
    let place = place_with(Registry::everywhere_with_login());
    let Place { registry, host, project, .. } = &place;
    let secret = format!("{BASE}\n  secrets = [{{ id = \"token\", env = \"THE_TOKEN\" }}],");
    project.layer(
        "base",
        &secret,
        "FROM base.example/busybox:1\nRUN --mount=type=secret,id=token cat /run/secrets/token >/dev/null && sleep 4\n",
    );
    project.layer("next", "  build_base = \"base\",", "FROM lamina/base\nRUN sleep 5\n");
    let config = tempfile::tempdir().expect("a folder");
    let (ours, other) = (format!("{}:{}", meeting_place(), registry.port()), "another.example");
    let auths = format!(
        "{{ \"auths\": {{ \"{ours}\": {{ \"auth\": \"{REGISTRY_LOGIN}\" }}, \"{other}\": {{ \"auth\": \"YTpi\" }} }} }}"
    );
    std::fs::write(config.path().join("config.json"), auths).expect("writable");
    let mut command = project.command(&["apply", "--format", "json"]);
    command.env("DOCKER_CONFIG", config.path()).env("THE_TOKEN", "s3cr3t-value");
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary starts");
    let reading = read_until(&mut child, |line| line.contains("sleep 4") && line.contains("started"));
    let files = "cd /run/lian-build && stat -c '%a %n' . secrets secrets/* docker docker/*";
    assert_eq!(host.run(files), "700 .\n700 secrets\n600 secrets/0\n700 docker\n600 docker/config.json\n");
    let told = host.run("cat /run/lian-build/docker/config.json");
    assert!(told.contains(&ours) && told.contains(REGISTRY_LOGIN) && !told.contains(other), "{told}");
    let (reading, _) = reading.read_on(|line| line.contains("sleep 5") && line.contains("started"));
    assert_eq!(host.run("ls -d /run/lian-build/secrets"), "", "a secret outlived its build");
    let (code, output) = reading.drain();
    assert_eq!(code, 0, "{output}");
    assert_eq!(output.matches("\"lease.granted\"").count(), 1, "they were not built on one lease");
    comes_clean(host);
}

#[test]
fn buildctl_that_is_killed_there_is_tried_again_on_a_new_lease() {
    let place = place();
    let Place { host, project, .. } = &place;
    project.layer("long", BASE, "FROM base.example/busybox:1\nRUN sleep 3\n");
    let mut child =
        project.command(&["apply", "--format", "json"]).stdout(Stdio::piped()).spawn().expect("the binary starts");
    let reading = read_until(&mut child, |line| line.contains("RUN sleep 3") && line.contains("started"));
    host.run("pkill -9 -x buildctl");
    let (reading, retried) = reading.read_on(|line| line.contains("step.retried"));
    assert!(retried.contains("lian::buildkit::buildctl_killed"), "{retried}");
    let (code, output) = reading.drain();
    assert_eq!(code, 0, "{output}");
}

#[test]
fn a_host_without_buildctl_is_told_of_and_not_tried_again() {
    let place = place();
    let Place { host, project, .. } = &place;
    // Its own folder of programs is everybody's: another one is laid over it.
    host.until("ls /run/lian/ready 2>/dev/null");
    host.run("mkdir /tmp/empty && mount --bind /tmp/empty /usr/local/bin");
    project.layer("base", BASE, "FROM base.example/busybox:1\nRUN true\n");
    let ran = project.lian(&["apply", "--format", "json"]).exits(4);
    assert!(ran.stdout.contains("lian::remote::no_buildctl") && !ran.stdout.contains("step.retried"), "{}", ran.both());
}

#[test]
fn a_link_that_is_cut_ends_the_build_there_and_cleans_the_host() {
    let place = place();
    let Place { host, project, .. } = &place;
    project.layer("long", BASE, "FROM base.example/busybox:1\nCOPY . /all\nRUN sleep 311; true\n");
    let mut child =
        project.command(&["apply", "--format", "json"]).stdout(Stdio::piped()).spawn().expect("the binary starts");
    let reading = read_until(&mut child, |line| line.contains("RUN sleep 311") && line.contains("started"));
    host.until("pgrep -f '[s]leep 311'");
    host.cut(true);
    let (reading, cut) = reading.read_on(|line| line.contains("step.retried"));
    assert!(cut.contains("lian::remote::link_lost"), "{cut}");
    let started = Instant::now();
    while !host.run("pgrep -f '[s]leep 311|[b]uildctl'; ls -A /workspace; ls -d /run/lian-build").is_empty() {
        assert!(started.elapsed().as_secs() < 120, "{}", host.run("ps ax; ls -A /workspace /run/lian-build"));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(std::process::Command::new("kill").arg(reading.id().to_string()).status().expect("kill").success());
    let (code, output) = reading.drain();
    assert_eq!(code, 130, "{output}");
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
    let started = Instant::now();
    while !host.run("pgrep -f '[s]leep 61|[b]uildctl'; ls -A /workspace").trim().is_empty() {
        assert!(started.elapsed().as_secs() < 20, "{}", host.run("ps ax; ls -A /workspace"));
        std::thread::sleep(Duration::from_millis(50));
    }
}
