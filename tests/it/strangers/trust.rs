//! What a project's files want of the user's world, and the user did not grant. Not responsible for: the state folder.

mod order;
mod undo;

use std::io::Read;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::on_a_terminal;
use crate::support::project::{Project, Ran};

/// Somebody who listens where a clone points, hears what is said, and hangs up: a client goes on at once.
struct Sink {
    /// `127.0.0.1:PORT`, or the path of a socket file.
    address: String,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Sink {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        Self::hearing(address, move || listener.accept().map(|(stream, _)| stream))
    }

    /// On a socket file.
    fn on(path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("a socket");
        Self::hearing(path.display().to_string(), move || listener.accept().map(|(stream, _)| stream))
    }

    fn hearing<S: Read>(address: String, accept: impl Fn() -> std::io::Result<S> + Send + 'static) -> Self {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&heard);
        std::thread::spawn(move || {
            loop {
                let mut stream = accept().expect("a connection");
                let mut bytes = vec![0; 4096];
                let read = stream.read(&mut bytes).unwrap_or(0);
                bytes.truncate(read);
                all.lock().expect("unpoisoned").push(bytes);
            }
        });
        Self { address, heard }
    }

    /// How often somebody came.
    fn contacts(&self) -> usize {
        self.heard.lock().expect("unpoisoned").len()
    }
}

/// The binary with these arguments in a clone of a stranger's, with the tokens of the user, who granted nothing.
fn in_clone(project: &Project, arguments: &[&str]) -> std::process::Command {
    let mut command = project.command(arguments);
    command.env_remove("LIAN_TRUST").env("XDG_CONFIG_HOME", project.data()).env("DOCKER_CONFIG", project.data());
    command.env("LIAN_POOL_TOKEN", "pool-token-0123456789-abcdef").env("HCLOUD_TOKEN", "hcloud-token-0123456789");
    command.env("PROXMOX_TOKEN", "root@pam!t=00000000-0000-0000-0000-000000000000");
    command
}

/// Runs it to its end.
fn ran_in_clone(project: &Project, arguments: &[&str]) -> Ran {
    in_clone(project, arguments).output().expect("the binary starts").into()
}

const SCRATCH: &str = "  build_base = { image = \"scratch\" },";
const BASE: &str = "  build_base = { image = \"base.example/busybox:1\" },";

fn workflow(project: &Project, fields: &str) {
    let text = format!(
        "let {{ Workflow, .. }} = import \"schemas/workflow.ncl\" in\n{{ catalog = \"../catalog\", {fields} }} | Workflow\n"
    );
    project.write("workflows/local.ncl", &text);
}

/// A clone whose one layer needs nothing, with this workflow.
fn planted(fields: &str) -> Project {
    let project = Project::new();
    project.layer("app", SCRATCH, "FROM scratch\nCOPY . /\n");
    workflow(&project, fields);
    project
}

fn pool_at(address: &str) -> String {
    pool_of(&format!("http://{address}"))
}

fn pool_of(endpoint: &str) -> String {
    format!(
        "compute_provider = 'vm_pool, providers.vm_pool = {{ endpoint = \"{endpoint}\", workspace = \"w\" }}, \
         runners.context_transfer = 'session"
    )
}

/// Every command that could ask a provider.
const COMMANDS: [&[&str]; 9] = [
    &["check"],
    &["plan"],
    &["apply"],
    &["leases"],
    &["leases", "gc"],
    &["doctor", "--workflow", "workflows/local.ncl"],
    &["serve", "--workflow", "workflows/local.ncl", "--listen", "127.0.0.1:0"],
    &["load", "app"],
    &["dispatch", "--context", "catalog/app", "--workflow", "workflows/local.ncl"],
];

#[test]
fn no_token_goes_to_an_address_that_a_clone_names() {
    let listener = Sink::new();
    let address = &listener.address;
    let proxmox = format!(
        "compute_provider = 'proxmox, providers.proxmox = {{ endpoint = \"https://{address}\", node = \"n\", \
         template = 100, ids = [5000, 5001] }}, runners.context_transfer = 'session"
    );
    for fields in [pool_at(address), proxmox] {
        let project = planted(&fields);
        for command in COMMANDS {
            let ran = ran_in_clone(&project, command);
            assert_eq!(listener.contacts(), 0, "{command:?}: {}", ran.both());
            if command[0] != "load" {
                assert!(ran.both().contains(address), "{command:?}: {}", ran.both());
            }
            if ["plan", "apply", "leases", "serve", "dispatch"].contains(&command[0]) {
                let ran = ran.exits(64);
                assert!(ran.stderr.contains("lian::trust::endpoint"), "{command:?}: {}", ran.both());
                assert!(ran.stderr.contains("local.ncl:2"), "{command:?}: {}", ran.both());
            }
        }
    }
    // The same clone, with the address named by the user: the listener does hear of it, once the user also names the pool.
    let project = planted(&pool_at(address));
    let named = |arguments: &[&str]| {
        let named = in_clone(&project, arguments).env("LIAN_POOL_ENDPOINT", format!("http://{address}/")).output();
        Ran::from(named.expect("it starts"))
    };
    let ran = named(&["leases"]).exits(64);
    assert!(ran.stderr.contains("lian::trust::provider") && listener.contacts() == 0, "{}", ran.both());
    let ran = named(&["leases", "--provider", "vm-pool"]);
    assert!(listener.contacts() > 0, "{}", ran.both());
}

#[test]
fn an_address_is_the_users_by_the_configuration_or_by_a_grant_and_another_one_asks_again() {
    let (listener, other) = (Sink::new(), Sink::new());
    let project = planted(&pool_at(&listener.address));
    std::fs::create_dir(project.data().join("lian-build")).expect("writable");
    let config = project.data().join("lian-build/config.toml");
    std::fs::write(&config, format!("[endpoints]\nvm_pool = \"http://{}\"\n", listener.address)).expect("written");
    ran_in_clone(&project, &["leases", "--provider", "vm-pool"]);
    let before = listener.contacts();
    assert!(before > 0, "the configuration counts");
    std::fs::write(&config, "[endpoints]\nmoon = \"x\"\n").expect("written");
    let ran = ran_in_clone(&project, &["leases"]).exits(64);
    assert!(ran.stderr.contains("lian::trust::user_config") && ran.stderr.contains("moon"), "{}", ran.both());
    std::fs::remove_file(&config).expect("removed");
    ran_in_clone(&project, &["leases"]).exits(64);
    assert_eq!(listener.contacts(), before);
    let ran = ran_in_clone(&project, &["trust", "--yes"]).exits(0);
    assert!(ran.stdout.contains("LIAN_POOL_TOKEN is sent there"), "{}", ran.both());
    ran_in_clone(&project, &["leases"]);
    let granted = listener.contacts();
    assert!(granted > before, "the grant counts");
    workflow(&project, &pool_at(&other.address));
    ran_in_clone(&project, &["leases"]).exits(64);
    workflow(&project, &pool_at(&listener.address));
    ran_in_clone(&project, &["trust", "--revoke", "all"]).exits(0);
    ran_in_clone(&project, &["leases"]).exits(64);
    assert_eq!((listener.contacts(), other.contacts()), (granted, 0));
}

#[test]
fn what_a_clone_wants_of_the_users_files_keys_and_tokens_is_told_and_refused_all_at_once() {
    let outside = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(outside.path(), "private\n").expect("written");
    let project = planted(&format!("ca_bundle = \"{}\"", outside.path().display()));
    std::os::unix::fs::symlink(outside.path(), project.path().join("catalog/app/link")).expect("a link");
    let fields = format!(
        "{SCRATCH}\n  secrets = [\n    {{ id = \"a\", file = \"{}\" }},\n    {{ id = \"b\", env = \"HCLOUD_TOKEN\" }},\n    \
         {{ id = \"c\", env = \"NPM_TOKEN\" }},\n    {{ id = \"d\", file = \"link\" }},\n    {{ id = \"e\", file = \"/proc/self/environ\" }},\n    \
         {{ id = \"f\", file = \"own\" }},\n  ],\n  ssh = [\"default\"],",
        outside.path().display()
    );
    project.layer("app", &fields, "FROM scratch\nCOPY Dockerfile /\n").write("catalog/app/own", "in the project\n");
    let with = |arguments: &[&str]| -> Ran {
        in_clone(&project, arguments).env("NPM_TOKEN", "npm-token").output().expect("it starts").into()
    };
    let ran = with(&["check", "--strict"]).exits(1);
    assert!(ran.stderr.contains("HCLOUD_TOKEN is never given to a build"), "{}", ran.both());
    let plan = with(&["plan"]).exits(0);
    let given = "secret c ← env NPM_TOKEN, secret d ← file link, secret e ← file /proc/self/environ, \
                 secret f ← file own, ssh agent";
    assert!(plan.stdout.contains("app gives: ") && plan.stdout.contains(given), "{}", plan.both());
    let json = with(&["plan", "--format", "json"]).exits(0).json();
    let granted: Vec<bool> =
        json["gives"].as_array().expect("a list").iter().map(|row| row["granted"] == true).collect();
    assert_eq!(granted, [false, false, false, false, false, true, false], "{json}");
    for command in [&["apply"][..], &["apply", "--trust", "all"]] {
        let ran = with(command).exits(64);
        assert!(
            ran.stderr.contains("lian::trust::own_token") && ran.stderr.contains("workflow.ncl:8"),
            "{}",
            ran.both()
        );
        let asks = command.len() == 1;
        for code in ["lian::trust::secret", "lian::trust::ssh_agent", "lian::trust::ca_bundle"] {
            assert_eq!(ran.stderr.contains(code), asks, "{code}: {}", ran.both());
        }
    }
    let ran = with(&["trust", "--yes"]).exits(1);
    assert!(!ran.stdout.contains("HCLOUD") && !ran.stdout.contains("/proc"), "{}", ran.both());
    assert_eq!(with(&["trust", "--list", "--format", "json"]).json()["granted"].as_array().map(Vec::len), Some(5));
}

#[test]
fn nothing_is_granted_unless_somebody_says_yes() {
    let project = planted("");
    project.layer("app", &format!("{SCRATCH}\n  ssh = [\"default\"],"), "FROM scratch\nCOPY . /\n");
    let granted = || {
        let listed = ran_in_clone(&project, &["trust", "--list", "--format", "json"]).exits(0).json();
        listed["granted"].as_array().expect("a list").len()
    };
    // Without a terminal nobody was asked, so nobody said yes.
    let ran = ran_in_clone(&project, &["trust"]).exits(64);
    for told in ["lian::trust::ssh_agent", "workflow.ncl:6", "may log in with them", "lian-build trust --yes"] {
        assert!(ran.stderr.contains(told), "{told}: {}", ran.both());
    }
    let ran = ran_in_clone(&project, &["trust", "--format", "json"]).exits(64);
    assert!(ran.stdout.contains("lian::trust::ssh_agent"), "{}", ran.both());
    assert_eq!(granted(), 0);
    // On a terminal it asks, and only a yes is one.
    for (command, no) in [(&["trust"][..], 0), (&["apply"], 64)] {
        for typed in ["n\n", "\n", "", "show\nyess\n"] {
            let (code, seen) = on_a_terminal(&in_clone(&project, command), typed);
            assert!(seen.contains("grant it to this project? [y/N/show]"), "{seen}");
            assert_eq!(
                seen.contains("you have not granted it"),
                code == Some(64) || typed.starts_with("show"),
                "{seen}"
            );
            assert_eq!((code, granted()), (Some(no), 0), "{command:?} {typed:?}: {seen}");
        }
    }
    let (code, seen) = on_a_terminal(&in_clone(&project, &["trust"]), "show\nyes\n");
    assert!(seen.contains("you have not granted it") && seen.contains("granted  the keys of your ssh agent"), "{seen}");
    assert_eq!((code, granted()), (Some(0), 1), "{seen}");
    let (code, seen) = on_a_terminal(&in_clone(&project, &["trust"]), "");
    assert_eq!((code, seen.contains("nothing to grant")), (Some(0), true), "{seen}");
    ran_in_clone(&project, &["trust", "--revoke", "all"]).exits(0);
    let (code, seen) = on_a_terminal(&in_clone(&project, &["trust", "--yes"]), "");
    assert_eq!((code, granted(), seen.contains("[y/N")), (Some(0), 1, false), "{seen}");
    ran_in_clone(&project, &["trust", "--revoke", "all"]).exits(0);
    ran_in_clone(&project, &["trust", "--yes", "--format", "json"]).exits(0);
    assert_eq!(granted(), 1);
}

#[test]
fn a_grant_holds_for_its_layer_its_id_and_its_variable_and_travels_to_a_ci() {
    let project = Project::with_base();
    let layer = |id: &str, variable: &str| {
        let fields = format!("{BASE}\n  secrets = [{{ id = \"{id}\", env = \"{variable}\" }}],");
        let dockerfile = format!(
            "FROM base.example/busybox:1\nRUN --mount=type=secret,id={id},required=true [ -s /run/secrets/{id} ]\n"
        );
        project.layer("app", &fields, &dockerfile);
    };
    let with = |arguments: &[&str]| -> Ran {
        let mut command = in_clone(&project, arguments);
        command.env("NPM_TOKEN", "npm-value-1").env("PYPI_TOKEN", "pypi-value-1").output().expect("it starts").into()
    };
    layer("npm", "NPM_TOKEN");
    let ran = with(&["apply"]).exits(64);
    assert!(ran.stderr.contains("lian-build trust") && ran.stderr.contains("NPM_TOKEN"), "{}", ran.both());
    with(&["trust", "--yes"]).exits(0);
    with(&["apply"]).exits(0);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("grants.json").display().to_string();
    std::fs::write(&file, with(&["trust", "--export"]).exits(0).stdout).expect("written");
    layer("npm", "PYPI_TOKEN");
    with(&["apply"]).exits(64);
    layer("other", "NPM_TOKEN");
    with(&["apply"]).exits(64);
    layer("npm", "NPM_TOKEN");
    with(&["trust", "--revoke", "all"]).exits(0);
    with(&["apply", "--force", "app"]).exits(64);
    with(&["apply", "--force", "app", "--trust", &file]).exits(0);
}

#[test]
fn a_clone_brings_no_grants() {
    let project = Project::new();
    let git = |arguments: &[&str]| {
        let mut command = std::process::Command::new("git");
        command.args(arguments).current_dir(project.path()).env("GIT_CONFIG_GLOBAL", "/dev/null");
        assert!(command.output().expect("git runs").status.success(), "{arguments:?}");
    };
    project.layer("app", &format!("{SCRATCH}\n  ssh = [\"default\"],"), "FROM scratch\nCOPY . /\n");
    ran_in_clone(&project, &["trust", "--yes"]).exits(0);
    let exported = ran_in_clone(&project, &["trust", "--export"]).exits(0).stdout;
    project.write("grants.json", &exported);
    git(&["init", "-q"]);
    git(&["add", "-f", "grants.json"]);
    let ran = ran_in_clone(&project, &["apply", "--trust", "grants.json"]).exits(64);
    assert!(ran.stderr.contains("lian::trust::tracked"), "{}", ran.both());
}

#[test]
fn dispatch_lends_no_agent_that_nobody_named() {
    let project = Project::with_base();
    let dockerfile = "FROM base.example/busybox:1\nRUN --mount=type=ssh,id=default,required=true true\n";
    project.write("Dockerfile", dockerfile);
    let ran = in_clone(&project, &["dispatch"]).env("SSH_AUTH_SOCK", "/nowhere").output();
    let ran = Ran::from(ran.expect("it starts")).exits(1);
    assert!(ran.stderr.contains("--ssh"), "{}", ran.both());
}

#[test]
fn hosts_and_privileged_images_of_a_clone_are_asked_for() {
    let listener = Sink::new();
    let (host, port) = listener.address.split_once(':').expect("a port");
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGdMbVEpbqEsnFLsOtJQ1zrW0yoM1AOGTZfTtjbSqI8Z";
    let hosts = format!(
        "compute_provider = 'ssh, runners.context_transfer = 'session, providers.ssh.hosts = [{{ address = \"{host}\", \
         port = {port}, host_key = \"{key}\", cpu = 2, memory_gb = 4, platform = \"linux/amd64\" }}]"
    );
    let image = "compute_provider = 'docker_local, providers.docker_local.image = \"evil.example/buildkit:1\"";
    let network = "compute_provider = 'local, providers.local.network = 'host";
    let asked =
        [(&*hosts, "lian::trust::host"), (image, "lian::trust::runner_image"), (network, "lian::trust::host_network")];
    for (fields, code) in asked {
        let project = planted(fields);
        let ran = ran_in_clone(&project, &["apply"]).exits(64);
        assert!(ran.stderr.contains(code), "{}", ran.both());
        ran_in_clone(&project, &["doctor", "--workflow", "workflows/local.ncl"]);
        assert_eq!(listener.contacts(), 0);
    }
}
