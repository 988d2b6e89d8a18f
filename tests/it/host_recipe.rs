//! The recipe of `docs/providers/ssh.md`, followed word by word: what is written there is what the host is made of.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::runners::{SESSION, project_on};
use crate::support::machines::Order;
use crate::support::project::text;
use crate::support::sandbox::{Sandbox, key_pair};

/// A machine after its installation: nothing of lian-build's, and places of its own for what the recipe writes.
const INSTALLED: &str = r#"
set -e
mount -t tmpfs -o mode=755 tmpfs /run
cp -r "$FILES" /run/files
mkdir -p /run/sshd /etc/buildkit /etc/ssh/sshd_config.d /workspace /var/lib/buildkit /var/lib/lian-build
for place in /etc/buildkit /etc/ssh/sshd_config.d /etc/systemd/system /usr/local/sbin /usr/local/bin /workspace \
  /var/lib/buildkit /var/lib/lian-build; do mount -t tmpfs tmpfs $place; done
cp "$BIN"/buildkitd "$BIN"/buildctl /usr/local/bin
mount -t tmpfs -o mode=700 tmpfs /root
mount -t tmpfs tmpfs /tmp
mkdir -m 700 /root/.ssh
cp /run/files/authorized_keys /root/.ssh/authorized_keys
(cd /run/files/recipe && find . -type f -exec cp --parents {} / \;)
chmod 755 /run/files/shim/systemctl
PATH=/run/files/shim:$PATH sh -e /run/files/commands
: >/run/recipe-followed
exec /usr/sbin/sshd -D -e -f /run/files/sshd_config.recipe </dev/null >/run/sshd.log 2>&1
"#;

/// As much of systemd as a recipe needs: it starts what the unit says, and again when that ends.
const SYSTEMCTL: &str = r#"#!/bin/sh
set -e
case "$*" in
daemon-reload | "reload ssh") ;;
"enable --now "*)
  unit=/etc/systemd/system/$3.service
  before=$(sed -n 's/^ExecStartPre=//p' "$unit")
  start=$(sed -n 's/^ExecStart=//p' "$unit")
  grep -qx 'Restart=always' "$unit"
  $before
  (while :; do $start >>/run/buildkitd.log 2>&1 || true; sleep 0.2; done) </dev/null >/dev/null 2>&1 &
  ;;
*) echo "there is no systemctl $*" >&2; exit 1 ;;
esac
"#;

/// The recipe's files by path, and its commands.
fn recipe() -> (Vec<(PathBuf, String)>, String) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/providers/ssh.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let section = page.split("\n### A host, step by step\n").nth(1).expect("the recipe");
    let section = section.split("\n## ").next().expect("a section");
    let (mut files, mut commands) = (Vec::new(), String::new());
    for block in section.split("\n```").skip(1).step_by(2) {
        let (head, body) = block.split_once('\n').expect("a block");
        match head.split_once(' ') {
            Some((_, path)) => files.push((PathBuf::from(path), format!("{body}\n"))),
            None => commands.push_str(&format!("{body}\n")),
        }
    }
    (files, commands)
}

/// Removes the builds' cgroup, which is the machine's: its name is the recipe's.
struct Group(Option<PathBuf>);

impl Drop for Group {
    fn drop(&mut self) {
        for folder in self.0.iter() {
            let _ = std::process::Command::new("find")
                .arg(folder)
                .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"])
                .status();
        }
    }
}

#[test]
fn a_host_made_by_the_recipe_is_sound_and_builds() {
    let (files, commands) = recipe();
    let paths: Vec<_> = files.iter().map(|(path, _)| path.display().to_string()).collect();
    assert_eq!(paths.len(), 4, "{paths:?}");
    assert!(commands.contains("systemctl enable --now buildkit"), "{commands}");
    let keys = tempfile::tempdir().expect("a folder");
    let (key, public) = key_pair(keys.path());
    let old = Path::new("/sys/fs/cgroup/memory").is_dir();
    let group = Path::new("/sys/fs/cgroup").join(if old { "memory/lian-build" } else { "lian-build" });
    let _removed = Group(Some(group.clone()));
    let order =
        Order { name: "recipe".to_owned(), cpu: 2, memory_gb: 4, authorized_keys: vec![public], host_key: None };
    let host = Sandbox::boot_by(&order, INSTALLED, |folder| {
        for (path, content) in &files {
            let path = folder.join("recipe").join(path.strip_prefix("/").expect("an absolute path"));
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
            std::fs::write(path, content).expect("writable");
        }
        std::fs::create_dir(folder.join("shim")).expect("writable");
        std::fs::write(folder.join("shim/systemctl"), SYSTEMCTL).expect("writable");
        std::fs::write(folder.join("commands"), &commands).expect("writable");
        let sshd = "Port 22\nHostKey /run/files/host_key\nPidFile none\nUsePAM no\nStrictModes no\n\
                    Include /etc/ssh/sshd_config.d/*.conf\nSubsystem sftp internal-sftp\n";
        std::fs::write(folder.join("sshd_config.recipe"), sshd).expect("writable");
    });
    host.until("[ -S /run/buildkit/buildkitd.sock ] && [ -e /run/recipe-followed ] && echo up");
    assert_eq!(host.run("ls -d /run/lian 2>/dev/null"), "", "the recipe makes what only a first boot makes");
    let limit = |file: &str| std::fs::read_to_string(group.join(file)).expect("a limit").trim().to_owned();
    let limit = limit(if old { "memory.limit_in_bytes" } else { "memory.max" });

    let project = project_on(&[(&host, 2, 1)], &key, SESSION);
    let told = project.lian(&["doctor", "--format", "json", "--workflow", "workflows/local.ncl"]).json();
    let findings = told["findings"].as_array().expect("findings").iter();
    let found: Vec<&Value> = findings.filter(|found| found["name"] == host.address.to_string()).collect();
    assert_eq!(text(&found[0]["state"]), "well", "{told}");

    project.write("catalog/base/.build-spec.ncl", "{ cpu = 1, memory_gb = 1 }");
    let base = "  build_base = { image = \"base.example/busybox:1\" },";
    project.layer("base", base, "FROM base.example/busybox:1\nRUN sleep 3; echo built > /built\n");
    let ran = project.lian(&["apply", "--format", "json"]).exits(0);
    let events = ran.events();
    let end = events.iter().find(|event| event["type"] == "step.finished").expect("an end");
    assert_eq!(text(&end["outcome"]), "built", "{}", ran.both());
    let seen = end["measured"]["memory_limit"].as_u64().unwrap_or(0).to_string();
    assert_eq!(seen, limit, "the counters read are not those of the recipe's group: {end}");
}
