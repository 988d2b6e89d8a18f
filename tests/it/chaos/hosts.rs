//! Two fixed hosts, of which one is sick. Not responsible for: hosts that a cloud rents out.

use std::path::PathBuf;

use super::Dice;
use crate::support::sandbox::{Sandbox, key_pair};

/// Two hosts that know one key.
pub struct Pair {
    keys: tempfile::TempDir,
    /// The first one is the one that is chosen first.
    pub hosts: [Sandbox; 2],
}

type Illness = (&'static str, fn(&Sandbox));

const ILLNESSES: &[Illness] = &[
    ("its daemon hangs", |host| drop(host.run("pkill -STOP buildkitd"))),
    ("its daemon is dead behind its socket", |host| {
        drop(host.run("touch /run/lian/no-restart; pkill -9 buildkitd; while pgrep buildkitd; do :; done"))
    }),
    ("it has no socket", |host| drop(host.run("rm -f /run/buildkit/buildkitd.sock"))),
    ("nobody answers", |host| host.cut(true)),
    // Another machine has the address: its sshd shows another key.
    ("it has another key", |host| {
        drop(host.run(
            "ssh-keygen -q -t ed25519 -N '' -C '' -f /run/other_key; mount --bind /run/other_key /run/files/host_key; \
             pkill -HUP -o sshd",
        ))
    }),
];

impl Pair {
    /// Both of them well.
    pub fn boot() -> Self {
        let keys = tempfile::tempdir().expect("a folder");
        let (_, public) = key_pair(keys.path());
        Self { keys, hosts: [Sandbox::with(&public, 2, 4), Sandbox::with(&public, 4, 8)] }
    }

    /// The first one falls ill; says how.
    pub fn infect(&self, dice: &mut Dice) -> &'static str {
        let (name, strike) = dice.pick(ILLNESSES);
        strike(&self.hosts[0]);
        name
    }

    /// What a workflow says of them.
    pub fn listed(&self) -> String {
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let identity: PathBuf = self.keys.path().join("id");
        let [first, second] = &self.hosts;
        let list = [(first, 2, 4), (second, 4, 8)].map(|(host, cpu, memory)| {
            format!(
                "{{ address = \"{}\", host_key = \"{}\", identity = \"{}\", cpu = {cpu}, memory_gb = {memory}, \
                 platform = \"linux/{arch}\" }}",
                host.address,
                host.host_key,
                identity.display()
            )
        });
        list.join(", ")
    }
}
