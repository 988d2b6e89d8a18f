//! What steps of a build on this machine reach: not what listens for this machine alone, unless its user says so.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::Listener;
use crate::support::buildkitd;
use crate::support::project::{Project, Ran, text};
use crate::support::sandbox::{Sandbox, key_pair};

const BASE: &str = "  build_base = { image = \"base.example/busybox:1\" },";

/// A command whose builds run on a daemon of its own in this folder.
fn own_daemon(project: &Project, arguments: &[&str], data: &Path) -> Command {
    let mut command = project.command(arguments);
    command.env_remove("BUILDKIT_HOST").env("LIAN_DATA_DIR", data).env("LIAN_DAEMON_IDLE", "1s");
    command.env("LIAN_BUILDKIT_BIN", buildkitd::binaries().buildctl.parent().expect("a folder"));
    command
}

fn ran(mut command: Command) -> Ran {
    command.output().expect("the binary starts").into()
}

fn network_of(doctor: &Value) -> (String, String) {
    let findings = doctor["findings"].as_array().expect("findings");
    let found = findings.iter().find(|finding| finding["name"] == "network").unwrap_or_else(|| panic!("{doctor}"));
    (text(&found["state"]).to_owned(), format!("{} {}", text(&found["detail"]), found["mend"]))
}

/// A listener on 127.0.0.1, one on a socket without a file, and a layer whose step tries both.
struct Bait {
    loopback: Listener,
    _unnamed: UnixListener,
    step: String,
}

impl Bait {
    fn new() -> Self {
        let loopback = Listener::new();
        let name = format!("lian-bait-{}-{}", std::process::id(), loopback.address());
        let address = SocketAddr::from_abstract_name(&name).expect("an address");
        let unnamed = UnixListener::bind_addr(&address).expect("bound");
        let (host, port) =
            loopback.address().split_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a port");
        let step = format!(
            "RUN busybox timeout 3 busybox nc {host} {port} </dev/null; grep -q {name} /proc/net/unix && echo SEEN-UNIX; true\n"
        );
        Self { loopback, _unnamed: unnamed, step }
    }
}

#[test]
fn a_step_reaches_what_listens_on_this_machine_alone_only_if_its_user_says_so() {
    let bait = Bait::new();
    let project = Project::with_base();
    let layer = |network: &str| {
        let more = format!("compute_provider = 'local, providers.local.network = '{network}");
        let workflow = format!("let {{ Workflow, .. }} = import \"schemas/workflow.ncl\" in {{ {more} }} | Workflow");
        project.write("workflows/local.ncl", &workflow);
        let nonce = format!("FROM base.example/busybox:1\nRUN echo {}\n{}", uuid(), bait.step);
        project.layer("app", BASE, &nonce);
    };
    let data = buildkitd::scratch();
    let apply = || own_daemon(&project, &["apply", "--format", "json"], data.path());
    let seen = |command: Command| {
        let ran = ran(command).exits(0);
        (
            bait.loopback.contacts(),
            ran.stdout.matches("SEEN-UNIX\\n").count() + ran.stdout.matches("\"SEEN-UNIX\"").count(),
        )
    };
    layer("own");
    assert_eq!(seen(apply()), (0, 0));
    let doctor = ran(own_daemon(&project, &["doctor", "--format", "json"], data.path())).json();
    assert_eq!(network_of(&doctor), ("well".to_owned(), "steps have one of their own null".to_owned()));
    // What the user says goes before what the project says, and a project's word holds where it is granted.
    layer("own");
    let mut host = apply();
    host.env("LIAN_NETWORK", "host");
    let (loopback, unix) = seen(host);
    assert!(loopback == 1 && unix > 0, "{loopback} {unix}");
    layer("host");
    let mut own = apply();
    own.env("LIAN_NETWORK", "own");
    assert_eq!(seen(own), (0, 0));
    layer("host");
    assert_eq!(seen(apply()).0, 1);
    layer("host");
    let mut stranger = apply();
    stranger.env_remove("LIAN_TRUST");
    let refused = ran(stranger).exits(64);
    assert!(refused.both().contains("lian::trust::host_network"), "{}", refused.both());
    assert_eq!(bait.loopback.contacts(), 0);
}

/// Something that no step has said before.
fn uuid() -> String {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
}

#[test]
fn a_step_on_its_own_network_reaches_other_machines() {
    let keys = tempfile::tempdir().expect("a folder");
    let (_, public) = key_pair(keys.path());
    let other = Sandbox::with(&public, 2, 4);
    let project = Project::with_base();
    let dockerfile =
        format!("FROM base.example/busybox:1\nRUN busybox nc -w 10 {} 22 </dev/null | grep SSH-2.0\n", other.address);
    project.layer("app", BASE, &dockerfile);
    let data = buildkitd::scratch();
    let ran = ran(own_daemon(&project, &["apply", "--format", "json"], data.path())).exits(0);
    assert_eq!(ran.outcomes(), ["app=built"]);
}

/// A folder with all programs of the PATH but `iptables`.
fn programs() -> tempfile::TempDir {
    let programs = tempfile::tempdir().expect("a folder");
    for folder in std::env::split_paths(&std::env::var_os("PATH").expect("a PATH")) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if !name.to_string_lossy().starts_with("iptables") {
                let _ = symlink(entry.path(), programs.path().join(name));
            }
        }
    }
    programs
}

const SHARED: &str = "steps share this machine's network";

#[test]
fn where_steps_share_this_machines_network_apply_says_it_once_and_doctor_says_why() {
    let programs = programs();
    let project = Project::with_base();
    for name in ["one", "two"] {
        project.layer(name, BASE, "FROM base.example/busybox:1\nRUN true\n");
    }
    let data = buildkitd::scratch();
    let with = |arguments: &[&str]| {
        let mut command = own_daemon(&project, arguments, data.path());
        command.env("PATH", programs.path());
        ran(command)
    };
    let (state, said) = network_of(&with(&["doctor", "--format", "json"]).json());
    assert!(state == "advice" && said.contains(SHARED) && said.contains("install iptables"), "{said}");
    let told = with(&["apply"]).exits(0);
    assert_eq!(told.both().matches(SHARED).count(), 1, "{}", told.both());
}

#[test]
fn a_daemon_that_cannot_make_a_network_starts_without_one_and_says_so() {
    let programs = programs();
    let broken = programs.path().join("iptables");
    std::fs::write(&broken, "#!/bin/sh\nexit 3\n").expect("a file");
    std::fs::set_permissions(&broken, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a mode");
    let project = Project::with_base();
    project.layer("app", BASE, "FROM base.example/busybox:1\nRUN true\n");
    let data = buildkitd::scratch();
    let mut command = own_daemon(&project, &["apply"], data.path());
    command.env("PATH", programs.path());
    let told = ran(command).exits(0);
    assert!(told.both().contains(SHARED) && told.both().contains("buildkitd could not make one"), "{}", told.both());
}

#[test]
fn a_proxy_that_steps_cannot_reach_is_told() {
    let project = Project::with_base();
    project.layer("app", BASE, "FROM base.example/busybox:1\nARG http_proxy\nRUN true\n");
    let data = buildkitd::scratch();
    let told = |network: &str| {
        let arguments = [
            "apply",
            "--force",
            "app",
            "--build-arg",
            "http_proxy=localhost:3128",
            "--build-arg",
            "NO_PROXY=127.0.0.1",
        ];
        let mut command = own_daemon(&project, &arguments, data.path());
        command.env("LIAN_NETWORK", network);
        ran(command).exits(0).both().matches("is a proxy on this machine's loopback").count()
    };
    assert_eq!((told("own"), told("host")), (1, 0));
}
