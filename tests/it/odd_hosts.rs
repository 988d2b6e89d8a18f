//! Hosts that are set up in ways that nobody thought of: other login shells, greetings, limits of sshd, things that are
//! missing. Each builds all the same, or is passed over for another one and told in its own words.

use std::process::{Command, Stdio};

use crate::hosts::two;
use crate::runners::{SESSION, project_on};
use crate::support::project::{Project, Ran, text};
use crate::support::sandbox::{Sandbox, key_pair};

const BASE: &str = "  build_base = { image = \"base.example/busybox:1\" },";

/// Shells that are not sh, installed where they are missing.
fn shells() -> [&'static str; 3] {
    if ["/usr/bin/fish", "/usr/bin/tcsh"].iter().any(|shell| !std::path::Path::new(shell).is_file()) {
        let script = "apt-get install -y -q --no-install-recommends fish tcsh || \
                      { apt-get update -q && apt-get install -y -q --no-install-recommends fish tcsh; }";
        let installed = Command::new("sh").args(["-c", script]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(installed.is_ok_and(|status| status.success()), "`apt-get install fish tcsh` failed");
    }
    ["/bin/bash", "/usr/bin/tcsh", "/usr/bin/fish"]
}

/// Gives root another login shell on a host.
fn log_in_by(host: &Sandbox, shell: &str) {
    host.run(&format!(
        "umount /etc/passwd 2>/dev/null; sed 's#^\\(root:.*:\\)[^:]*$#\\1{shell}#' /etc/passwd >/run/passwd; \
         mount --bind /run/passwd /etc/passwd"
    ));
}

/// Where the only layer of a run was built, and what was told on standard error.
fn built_on(project: &Project, step: &str) -> (String, String) {
    project.layer("one", BASE, &format!("FROM base.example/busybox:1\nCOPY . /all\nRUN echo '{step}'\n"));
    let ran = project.lian(&["apply", "--format", "json"]).exits(0);
    let events = ran.events();
    assert!(events.iter().all(|event| event["type"] != "step.retried"), "{step}: {}", ran.both());
    let granted = events.iter().find(|event| event["type"] == "lease.granted").expect("a lease");
    (text(&granted["runner_type"]).to_owned(), ran.stderr)
}

#[test]
fn any_login_shell_runs_builds_and_its_greeting_is_no_answer() {
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let host = Sandbox::with(&public, 4, 8);
    let project = project_on(&[(&host, 4, 8)], &key, SESSION);
    let greeting = "echo 'free socket taken Welcome!'";
    host.run(&format!(
        "mkdir -p /root/.config/fish; for f in .bashrc .tcshrc .config/fish/config.fish; do echo \"{greeting}\" \
         >/root/$f; done"
    ));
    for shell in shells() {
        log_in_by(&host, shell);
        built_on(&project, shell);
        // A host that is held is held, whatever is printed before that answer.
        let hold = "exec 9>>/run/lian-build.lock; flock 9; echo >/run/holding; exec sleep 300";
        host.run(&format!("({hold}) >/dev/null 2>&1 </dev/null & until [ -e /run/holding ]; do :; done"));
        let listed = project.lian(&["leases", "--format", "json"]).exits(0).json();
        assert_eq!(listed["leases"].as_array().map(Vec::len), Some(1), "{shell}: {listed}");
        host.run("pkill -f '[s]leep 300'; rm /run/holding; flock /run/lian-build.lock true");
    }
}

#[test]
fn what_a_host_lacks_is_seen_before_it_is_leased() {
    let two = two("RUN true", true);
    let absent = |program: &str| {
        (
            format!(": >/run/no; chmod 0 /run/no; mount --bind /run/no $(command -v {program})"),
            format!("umount $(ls /bin/{program} /usr/bin/{program} /usr/local/bin/{program} 2>/dev/null)"),
        )
    };
    let sshd = |line: &str| {
        // sshd ignores a second hang-up until it has begun anew.
        let again = "n=$(grep -c 'Server listening' /run/sshd.log); pkill -HUP -o sshd; \
                     until [ $(grep -c 'Server listening' /run/sshd.log) -gt $n ]; do :; done; \
                     until grep -q '^SigCgt.*[13579bdf]$' /proc/1/status; do :; done";
        let set = format!(
            "cp /run/files/sshd_config /run/sound; sed -i '/^MaxSessions/d' /run/files/sshd_config; \
                           echo '{line}' >>/run/files/sshd_config; {again}"
        );
        (set, format!("cp /run/sound /run/files/sshd_config; {again}"))
    };
    let full = ("mount -t tmpfs -o size=512k tmpfs /var/lib/lian-build", "umount /var/lib/lian-build");
    let illnesses = [
        (absent("flock"), "has no `flock`"),
        (absent("timeout"), "has no `timeout`"),
        (absent("rsync"), "has no rsync"),
        ((full.0.to_owned(), full.1.to_owned()), "has a full disk"),
        (sshd("ForceCommand internal-sftp"), "runs no commands"),
        (sshd("MaxSessions 1"), "too few sessions"),
    ];
    for ((illness, cure), told) in illnesses {
        two.first.run(&illness);
        let (host, stderr) = built_on(&two.project, told);
        assert_eq!(host, two.second.address.to_string(), "{told}: {stderr}");
        assert!(stderr.contains("passed over") && stderr.contains(told), "{told}: {stderr}");
        two.first.run(&cure);
    }
    // Nothing is wrong with it any more: it is the smaller one, and is taken first.
    assert_eq!(built_on(&two.project, "cured").0, two.first.address.to_string());
    // Each of two sick hosts is told with its own sickness.
    log_in_by(&two.first, "/usr/sbin/nologin");
    two.second.run(&absent("flock").0);
    two.project.layer("one", BASE, "FROM base.example/busybox:1\nRUN echo none\n");
    let ran = two.project.lian(&["apply", "--format", "json"]).exits(4);
    for told in ["lian::providers::no_usable_host", "runs no commands", "has no `flock`"] {
        assert!(ran.stdout.contains(told), "{told}: {}", ran.both());
    }
}

#[test]
fn a_shell_that_talks_into_a_copy_is_told_at_once() {
    let two = two("COPY . /all", true);
    for host in [&two.first, &two.second] {
        host.run("echo 'echo Welcome!' >/root/.bashrc");
    }
    let ran = two.project.lian(&["apply", "--format", "json"]).exits(4);
    assert!(ran.stdout.contains("lian::remote::noisy_shell"), "{}", ran.both());
    assert!(!ran.stdout.contains("step.retried"), "{}", ran.both());
}

#[test]
fn a_host_of_two_names_is_never_used_twice_at_once() {
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let host = Sandbox::with(&public, 4, 8);
    let project = project_on(&[(&host, 4, 8), (&host, 4, 8)], &key, SESSION);
    let workflow = std::fs::read_to_string(project.path().join("workflows/local.ncl")).expect("a workflow");
    let literal = workflow.replacen(&host.address.to_string(), &host.ipv6.to_string(), 1);
    project.write("workflows/local.ncl", &literal);
    for name in ["left", "right"] {
        let alone = "mkdir /held/held && sleep 2 && rmdir /held/held";
        let mount = "--mount=type=cache,id=held,target=/held,sharing=shared";
        project.layer(name, BASE, &format!("FROM base.example/busybox:1\nRUN {mount} {alone}; echo {name}\n"));
    }
    let ran = project.lian(&["apply", "--parallel", "2", "--format", "json"]).exits(0);
    assert_eq!(ran.outcomes(), ["left=built", "right=built"]);
    assert!(
        ran.stderr.contains("held by this run") || ran.stdout.matches("lease.granted").count() == 1,
        "{}",
        ran.both()
    );
}

#[test]
fn a_last_try_that_has_no_time_left_does_not_hide_why_the_others_failed() {
    use std::os::unix::fs::PermissionsExt as _;
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let host = Sandbox::with(&public, 4, 8);
    let project = project_on(&[(&host, 4, 8)], &key, SESSION);
    project.layer("one", BASE, "FROM base.example/busybox:1\nRUN true\n");
    // An ssh that is refused once in each connection's folder, and hangs in every later try.
    let bin = keys.path().join("bin");
    std::fs::create_dir(&bin).expect("writable");
    let script = "#!/bin/sh\n[ -e \"$2.seen\" ] && exec sleep 60\n: >\"$2.seen\"\n\
                  echo 'ssh: connect to host h port 22: Connection refused' >&2\nexit 255\n";
    std::fs::write(bin.join("ssh"), script).expect("writable");
    std::fs::set_permissions(bin.join("ssh"), std::fs::Permissions::from_mode(0o755)).expect("ours");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").expect("a path"));
    let mut command = project.command(&["apply", "--format", "json"]);
    let ran = Ran::from(command.env("PATH", path).output().expect("it starts")).exits(4);
    assert!(
        ran.stdout.contains("Connection refused") && ran.stdout.contains("check whether sshd runs"),
        "{}",
        ran.both()
    );
}
