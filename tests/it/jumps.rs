//! Hosts that are reached only through another one, by an alias of the user's own ssh configuration, in every phase.

use std::process::{Command, Stdio};

use crate::support::lines::read_until;
use crate::support::project::{LIAN, Project, Ran, text};
use crate::support::registry::Registry;
use crate::support::sandbox::{Sandbox, key_pair, meeting_place, registry_ports};

const BASE: &str = "  build_base = { image = \"base.example/busybox:1\" },";
/// A user whose home, which ssh takes from the list of users, is a folder of the test's own.
const AT_HOME: &str = "mount --bind \"$LIST\" /etc/passwd && exec \"$@\"";

/// A host behind another one, and a user who knows the way.
struct Behind {
    keys: tempfile::TempDir,
    home: tempfile::TempDir,
    outer: Sandbox,
    inner: Sandbox,
    project: Project,
}

impl Behind {
    fn new() -> Self {
        let (keys, home) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let (key, public) = key_pair(keys.path());
        let (outer, inner) = (Sandbox::with(&public, 2, 4), Sandbox::with(&public, 2, 4));
        let beyond = outer.join(&inner);
        std::fs::create_dir(home.path().join(".ssh")).expect("writable");
        let behind = Self { keys, home, outer, inner, project: Project::with_base() };
        behind.write_home(
            "config",
            &format!(
                "Host outer\n  HostName {}\n  User root\n  IdentityFile {key}\n\nHost inner\n  HostName {beyond}\n  \
                 ProxyJump outer\n  IdentityFile {key}\n\nHost *\n  RemoteCommand false\n  ControlMaster auto\n  \
                 ControlPath {}/.ssh/%C\n  LocalForward 127.0.0.1:1 127.0.0.1:1\n",
                behind.outer.address,
                behind.home.path().display(),
                key = key.display(),
            ),
        );
        behind.knows_outer(true);
        let user = format!("root:x:0:0:root:{}:/bin/sh\n", behind.home.path().display());
        std::fs::write(behind.home.path().join("passwd"), user).expect("writable");
        behind
    }

    fn write_home(&self, name: &str, content: &str) {
        std::fs::write(self.home.path().join(".ssh").join(name), content).expect("writable");
    }

    /// Whether the user has seen the host on the way before.
    fn knows_outer(&self, knows: bool) {
        let line = format!("{} {}\n", self.outer.address, self.outer.host_key);
        self.write_home("known_hosts", if knows { &line } else { "" });
    }

    /// A workflow that names the alias, and pins this key for it.
    fn workflow(&self, host_key: &str, more: &str) {
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        self.project.write(
            "workflows/local.ncl",
            &format!(
                "let {{ Workflow, .. }} = import \"schemas/workflow.ncl\" in\n{{ catalog = \"../catalog\", \
                 compute_provider = 'ssh, providers.ssh.hosts = [{{ address = \"inner\", host_key = \"{host_key}\", \
                 cpu = 2, memory_gb = 4, platform = \"linux/{arch}\" }}], {more} }} | Workflow\n"
            ),
        );
    }

    /// The binary with these arguments, run by that user.
    fn command(&self, arguments: &[&str]) -> Command {
        let plain = self.project.command(arguments);
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", AT_HOME, "sh", LIAN]).args(plain.get_args());
        command.env("LIST", self.home.path().join("passwd")).current_dir(self.project.path()).stdin(Stdio::null());
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.env_remove("SSH_AUTH_SOCK");
        command
    }

    fn lian(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).output().expect("the binary starts").into()
    }
}

const SESSION: &str = "runners = { context_transfer = 'session, boot_timeout_s = 30 }";

#[test]
fn an_alias_behind_a_jump_host_is_looked_at_locked_and_built_on() {
    let registry = Registry::everywhere();
    let address = format!("{}:{}", meeting_place(), registry.port());
    registry_ports().lock().expect("whole").insert(address.clone());
    let behind = Behind::new();
    behind.workflow(&behind.inner.host_key, SESSION);
    let told = behind.lian(&["doctor", "--format", "json", "--workflow", "workflows/local.ncl"]);
    let json = told.json();
    let finding = json["findings"].as_array().expect("findings").iter().find(|found| found["name"] == "inner");
    let finding = finding.unwrap_or_else(|| panic!("{}", told.both()));
    assert!(text(&finding["detail"]).starts_with("login, host key, buildkitd"), "{}", told.both());

    // Its lock tells who holds it, to others too.
    let build = |name: &str, step: &str| {
        behind.project.layer(name, BASE, &format!("FROM base.example/busybox:1\nCOPY . /src\nRUN {step}\n"));
    };
    build("one", "echo built behind > /one; sleep 20");
    let mut child = behind
        .command(&["apply", "--format", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let reading = read_until(&mut child, |line| line.contains("sleep 20") && line.contains("started"));
    let listed = behind.lian(&["leases", "--format", "json"]).exits(0);
    assert!(listed.stdout.contains("host inner:22"), "{}", listed.both());
    assert!(behind.inner.run("cat /run/lian-build.lock").contains("run"), "it is not locked");
    let (code, output) = reading.drain();
    assert_eq!(code, 0, "{output}");
    let steps =
        |host: &Sandbox| host.run("buildctl --addr unix:///run/buildkit/buildkitd.sock du -v | grep -c 'built behind'");
    assert_eq!((steps(&behind.inner).trim(), steps(&behind.outer).trim()), ("1", "0"), "it was built elsewhere");

    build("one", "echo copied > /one");
    let registry =
        format!("registry_provider = 'registry, registry = {{ address = \"{address}/team\", plain_http = true }}");
    behind.workflow(
        &behind.inner.host_key,
        &format!("runners = {{ context_transfer = 'rsync, boot_timeout_s = 30 }}, {registry}"),
    );
    let ran = behind.lian(&["apply", "--format", "json"]).exits(0);
    assert_eq!(ran.outcomes(), ["one=built"], "{}", ran.both());
    let left = behind.inner.run("pgrep -c buildctl || true");
    assert_eq!(left.trim(), "0");
    assert!(behind.keys.path().exists());
}

#[test]
fn the_key_of_the_host_itself_is_pinned_whatever_leads_there() {
    let behind = Behind::new();
    behind.project.layer("one", BASE, "FROM base.example/busybox:1\nRUN true\n");
    behind.workflow(&behind.outer.host_key, SESSION);
    let fault = || {
        let ran = behind.lian(&["apply", "--format", "json"]).exits(4);
        let end = ran.events().into_iter().find(|event| event["type"] == "step.finished").expect("an end");
        (text(&end["fault"]["code"]).to_owned(), text(&end["fault"]["evidence"]).to_owned())
    };
    // The user's own list of hosts is not asked about it.
    assert_eq!(fault().0, "lian::remote::host_key");
    // An unknown host on the way is that one's fault, and is not trusted either.
    behind.knows_outer(false);
    behind.workflow(&behind.inner.host_key, SESSION);
    let (code, evidence) = fault();
    assert_eq!(code, "lian::remote::unreachable", "{evidence}");
    assert!(evidence.contains("on the way") && evidence.contains("Host key verification failed"), "{evidence}");
}
