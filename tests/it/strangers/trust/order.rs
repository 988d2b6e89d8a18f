//! What a grant covers is not opened, asked or contacted before it is granted. Not responsible for: what is refused
//! with which words.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::fs::{CWD, FileType, Mode, inotify, mknodat};

use super::*;
use crate::support::buildkitd;
use lian_build::domain::ports::ImageSource;

/// A file of the user's, outside of any project, whose every opening is noticed.
struct Canary {
    dir: tempfile::TempDir,
    watch: OwnedFd,
}

impl Canary {
    /// A regular file.
    fn file() -> Self {
        Self::made(|path| std::fs::write(path, "private-0123456789\n").expect("written"))
    }

    /// A named pipe.
    fn pipe() -> Self {
        Self::made(|path| mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a pipe"))
    }

    fn made(make: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        make(&dir.path().join("canary"));
        let watch = Self::watching(&dir.path().join("canary"));
        Self { dir, watch }
    }

    fn watching(path: &Path) -> OwnedFd {
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK).expect("a watch");
        let seen = inotify::WatchFlags::OPEN | inotify::WatchFlags::ACCESS;
        inotify::add_watch(&watch, path, seen).expect("watched");
        watch
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("canary")
    }

    fn openings(&self) -> usize {
        openings(&self.watch)
    }
}

/// How often what is watched was opened or read since the last look.
fn openings(watch: &OwnedFd) -> usize {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(watch, &mut buffer);
    std::iter::from_fn(|| reader.next().ok().map(|_| ())).count()
}

/// Lets a command run until somebody has come to a sink, then ends it.
fn comes(mut command: Command, sink: &Sink) -> bool {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    loop {
        let ended = child.try_wait().expect("a child").is_some();
        if ended || sink.contacts() > 0 {
            let _ = child.kill();
            child.wait().expect("it ends");
            return sink.contacts() > 0;
        }
        std::thread::yield_now();
    }
}

/// What is typed in a clone to see what it is.
const LOOKS: [&[&str]; 3] = [&["trust"], &["trust", "--list"], &["check", "--strict"]];

#[test]
fn no_file_of_the_users_is_opened_before_it_is_granted() {
    let (bundle, secret, linked) = (Canary::pipe(), Canary::file(), Canary::file());
    let project = Project::with_base();
    workflow(&project, &format!("ca_bundle = \"{}\"", bundle.path().display()));
    let fields = format!(
        "{BASE}\n  secrets = [{{ id = \"a\", file = \"{}\" }}, {{ id = \"b\", file = \"link\" }}, {{ id = \"ca\" }}],",
        secret.path().display()
    );
    project.layer("app", &fields, "FROM base.example/busybox:1\nRUN true\n");
    symlink(linked.path(), project.path().join("catalog/app/link")).expect("a link");
    let all = || [&bundle, &secret, &linked].map(Canary::openings);
    for command in LOOKS.iter().chain(&COMMANDS) {
        let ran = ran_in_clone(&project, command);
        assert_eq!(all(), [0; 3], "{command:?}: {}", ran.both());
    }
    let refused = ran_in_clone(&project, &["apply"]).exits(64);
    for path in [bundle.path(), secret.path(), linked.path()] {
        assert!(refused.stderr.contains(&*path.display().to_string()), "{}", refused.both());
    }
    // Once granted, they are opened, and what is no file is said.
    let ran = ran_in_clone(&project, &["plan", "--trust", "all"]).exits(64);
    assert!(ran.stderr.contains("the CA bundle") && bundle.openings() > 0, "{}", ran.both());
    workflow(&project, "");
    ran_in_clone(&project, &["apply", "--trust", "all"]).exits(0);
    assert!(secret.openings() > 0 && linked.openings() > 0);
}

#[test]
fn no_key_of_a_host_is_looked_at_before_the_host_is_granted() {
    let (sink, key) = (Sink::new(), Canary::file());
    let (host, port) = sink.address.split_once(':').expect("a port");
    let pinned = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGdMbVEpbqEsnFLsOtJQ1zrW0yoM1AOGTZfTtjbSqI8Z";
    let project = planted(&format!(
        "compute_provider = 'ssh, runners.context_transfer = 'session, providers.ssh.hosts = [{{ address = \"{host}\", \
         port = {port}, host_key = \"{pinned}\", identity = \"../key\", cpu = 2, memory_gb = 4, \
         platform = \"linux/amd64\" }}]"
    ));
    symlink(key.path(), project.path().join("key")).expect("a link");
    for command in LOOKS.iter().chain(&COMMANDS) {
        let ran = ran_in_clone(&project, command);
        assert_eq!((key.openings(), sink.contacts()), (0, 0), "{command:?}: {}", ran.both());
    }
    ran_in_clone(&project, &["trust", "--yes"]).exits(0);
    ran_in_clone(&project, &["check"]);
    assert!(key.openings() > 0, "what is granted is looked at");
    // The link leads to another key now, and nobody granted that one.
    let other = Canary::file();
    std::fs::remove_file(project.path().join("key")).expect("removed");
    symlink(other.path(), project.path().join("key")).expect("a link");
    let ran = ran_in_clone(&project, &["apply"]).exits(64);
    assert!(ran.stderr.contains("lian::trust::host") && ran.stderr.contains(&*other.path().display().to_string()));
    assert_eq!((other.openings(), sink.contacts()), (0, 0));
}

#[test]
fn no_socket_file_that_a_clone_names_is_a_pool_before_it_is_granted() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let (sink, other) = (Sink::on(&at("one")), Sink::on(&at("other")));
    let project = planted(&pool_of(&format!("unix:{}", sink.address)));
    for command in LOOKS.iter().chain(&COMMANDS) {
        let ran = ran_in_clone(&project, command);
        assert_eq!(sink.contacts(), 0, "{command:?}: {}", ran.both());
        if ["plan", "apply", "leases", "serve", "dispatch"].contains(&command[0]) {
            let ran = ran.exits(64);
            assert!(
                ran.stderr.contains("lian::trust::endpoint") && ran.stderr.contains(&sink.address),
                "{}",
                ran.both()
            );
        }
    }
    // By a link: what it leads to is granted, not the link.
    symlink(&sink.address, at("link")).expect("a link");
    workflow(&project, &pool_of(&format!("unix:{}", at("link").display())));
    ran_in_clone(&project, &["leases"]).exits(64);
    ran_in_clone(&project, &["trust", "--yes"]).exits(0);
    assert!(comes(in_clone(&project, &["leases"]), &sink), "the grant counts");
    std::fs::remove_file(at("link")).expect("removed");
    symlink(&other.address, at("link")).expect("a link");
    ran_in_clone(&project, &["leases"]).exits(64);
    assert_eq!(other.contacts(), 0);
    // The user's own word for it, by whatever name.
    let endpoint = format!("unix:{}", other.address);
    let mut named = in_clone(&project, &["leases", "--provider", "vm-pool"]);
    named.env("LIAN_POOL_ENDPOINT", endpoint);
    assert!(comes(named, &other), "the variable counts");
}

#[test]
fn no_registry_is_written_to_and_no_login_fetched_before_it_is_granted() {
    let sink = Sink::new();
    let project = planted(&format!(
        "registry_provider = 'registry, registry = {{ address = \"{}/team\", plain_http = true }}",
        sink.address
    ));
    let tools = tempfile::tempdir().expect("a folder");
    let (spy, trace) = (tools.path().join("docker-credential-spy"), tools.path().join("asked"));
    let script =
        format!("#!/bin/sh\necho asked >> {}\necho '{{\"Username\":\"u\",\"Secret\":\"s\"}}'\n", trace.display());
    std::fs::write(&spy, script).expect("written");
    std::fs::set_permissions(&spy, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let path = format!("{}:{}", tools.path().display(), std::env::var("PATH").expect("a path"));
    let with = |arguments: &[&str]| {
        let mut command = in_clone(&project, arguments);
        command.env("PATH", &path);
        command
    };
    for config in [
        "{\"credsStore\":\"spy\"}".to_owned(),
        format!("{{\"credHelpers\":{{\"{}\":\"spy\"}}}}", sink.address),
        format!("{{\"auths\":{{\"{}\":{{\"auth\":\"dTpz\"}}}}}}", sink.address),
    ] {
        std::fs::write(project.data().join("config.json"), &config).expect("written");
        for command in LOOKS.iter().chain(&COMMANDS) {
            let ran = Ran::from(with(command).output().expect("it starts"));
            assert_eq!((sink.contacts(), trace.exists()), (0, false), "{config} {command:?}: {}", ran.both());
            if ["plan", "apply"].contains(&command[0]) {
                let ran = ran.exits(64);
                assert!(ran.stderr.contains("lian::trust::registry"), "{config} {command:?}: {}", ran.both());
            }
        }
    }
    std::fs::write(project.data().join("config.json"), "{\"credsStore\":\"spy\"}").expect("written");
    Ran::from(with(&["trust", "--yes"]).output().expect("it starts")).exits(0);
    assert!(comes(with(&["plan"]), &sink), "the grant counts");
}

#[test]
fn no_provider_is_asked_anything_before_it_is_granted() {
    let sink = Sink::new();
    let project = planted(
        "compute_provider = 'hcloud, runners.context_transfer = 'session, runners.max_cost = 1, \
         providers.hcloud = { image = \"42\", prepared = true }",
    );
    let with = |arguments: &[&str]| {
        let mut command = in_clone(&project, arguments);
        command.env("HCLOUD_ENDPOINT", format!("http://{}", sink.address));
        command
    };
    for command in LOOKS.iter().chain(&COMMANDS) {
        let ran = Ran::from(with(command).output().expect("it starts"));
        assert_eq!(sink.contacts(), 0, "{command:?}: {}", ran.both());
        if command[0] == "doctor" {
            assert!(ran.both().contains("wants the provider hcloud"), "{}", ran.both());
        } else if ["plan", "apply", "leases", "serve", "dispatch"].contains(&command[0]) {
            let ran = ran.exits(64);
            assert!(ran.stderr.contains("lian::trust::provider"), "{command:?}: {}", ran.both());
            assert!(ran.stderr.contains("local.ncl:2"), "{command:?}: {}", ran.both());
        }
    }
    Ran::from(with(&["trust", "--yes"]).output().expect("it starts")).exits(0);
    assert!(comes(with(&["apply"]), &sink), "the grant counts");
    // What else is root on the machines is another grant: whoever asks them alone needs none.
    let sum = "0".repeat(64);
    workflow(
        &project,
        &format!(
            "compute_provider = 'hcloud, runners.context_transfer = 'session, providers.hcloud.buildkit = \
             {{ url = \"https://other.example/b\", sha256 = {{ amd64 = \"{sum}\", arm64 = \"{sum}\" }} }}"
        ),
    );
    let ran = Ran::from(with(&["apply"]).output().expect("it starts")).exits(64);
    assert!(ran.stderr.contains("lian::trust::runner_image") && ran.stderr.contains("other.example"), "{}", ran.both());
}

/// The user's own address does not say who may answer there.
#[test]
fn no_certificate_that_a_clone_pins_gets_the_users_token_at_the_users_own_address() {
    let (sink, ca) = (Sink::new(), Canary::pipe());
    let pinned = ["AB"; 32].join(":");
    let with = |project: &Project, arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = in_clone(project, arguments);
        command.env("PROXMOX_ENDPOINT", format!("https://{}", sink.address)).envs(variables.iter().copied());
        command
    };
    let fields = |peer: &str| {
        format!(
            "compute_provider = 'proxmox, runners.context_transfer = 'session, providers.proxmox = {{ {peer}, \
             endpoint = \"https://{}\", node = \"n\", template = 100, ids = [5000, 5001] }}",
            sink.address
        )
    };
    let peers = [
        format!("fingerprint = \"{pinned}\""),
        format!("ca = \"{}\"", ca.path().display()),
        "ca = \"ca.pem\"".to_owned(),
    ];
    for peer in &peers {
        let project = planted(&fields(peer));
        project.write("workflows/ca.pem", "one\n");
        let named = ["leases", "--provider", "proxmox"];
        for command in LOOKS.iter().chain(&COMMANDS).chain(&[&named[..]]) {
            for variables in [&[][..], &[("PROXMOX_FINGERPRINT", "CD"), ("PROXMOX_CA", "/etc/hostname")]] {
                let ran = Ran::from(with(&project, command, variables).output().expect("it starts"));
                assert_eq!((sink.contacts(), ca.openings()), (0, 0), "{command:?}: {}", ran.both());
                if ["plan", "apply", "leases", "serve", "dispatch"].contains(&command[0]) {
                    let ran = ran.exits(64);
                    assert!(ran.stderr.contains("lian::trust::endpoint"), "{peer} {command:?}: {}", ran.both());
                }
            }
        }
    }
    // The user's own word for it, however it is written.
    let project = planted(&fields(&peers[0]));
    let own = pinned.replace(':', "").to_lowercase();
    let command = with(&project, &["leases", "--provider", "proxmox"], &[("PROXMOX_FINGERPRINT", &own)]);
    assert!(comes(command, &sink), "the variable counts");
    // A grant is of what the CA's file holds.
    let project = planted(&fields(&peers[2]));
    project.write("workflows/ca.pem", "one\n");
    let ran = Ran::from(with(&project, &["trust", "--yes"], &[]).output().expect("it starts")).exits(0);
    assert!(ran.stdout.contains("ca.pem"), "{}", ran.both());
    let ran = Ran::from(with(&project, &["leases"], &[]).output().expect("it starts"));
    assert!(ran.stderr.contains("lian::proxmox::ca"), "the grant counts: {}", ran.both());
    project.write("workflows/ca.pem", "two\n");
    let ran = Ran::from(with(&project, &["leases"], &[]).output().expect("it starts")).exits(64);
    assert!(ran.stderr.contains("lian::trust::endpoint"), "{}", ran.both());
}

#[test]
fn no_login_goes_where_a_clone_says_who_answers_or_that_nobody_needs_to_prove_it() {
    let sink = Sink::new();
    let project = planted(&format!(
        "registry_provider = 'registry, registry = {{ address = \"{}/team\", plain_http = true }}, ca_bundle = \"ca.pem\"",
        sink.address
    ));
    project.write("workflows/ca.pem", "one\n");
    let logins = format!("{{\"auths\":{{\"{}\":{{\"auth\":\"dTpz\"}}}}}}", sink.address);
    std::fs::write(project.data().join("config.json"), logins).expect("written");
    // A registry that the user names is spoken to as the user says.
    let registry = format!("{}/mine", sink.address);
    let dispatch = |more: &[&str]| {
        let mut arguments = vec!["dispatch", "--context", "catalog/app", "--workflow", "workflows/local.ncl"];
        arguments.extend(["--registry", &registry].iter().chain(more));
        in_clone(&project, &arguments)
    };
    let ran = Ran::from(dispatch(&[]).output().expect("it starts")).exits(64);
    assert!(
        ran.stderr.contains("lian::trust::registry") && ran.stderr.contains("lian::trust::ca_bundle"),
        "{}",
        ran.both()
    );
    assert_eq!(sink.contacts(), 0, "{}", ran.both());
    let ran = Ran::from(dispatch(&["--plain-http"]).output().expect("it starts")).exits(64);
    assert!(
        !ran.stderr.contains("lian::trust::registry") && ran.stderr.contains("lian::trust::ca_bundle"),
        "{}",
        ran.both()
    );
    assert_eq!(sink.contacts(), 0, "{}", ran.both());
    // The bundle of the project is granted as it is now.
    ran_in_clone(&project, &["trust", "--yes"]).exits(0);
    assert!(comes(in_clone(&project, &["apply"]), &sink), "the grants count");
    project.write("workflows/ca.pem", "two\n");
    let ran = ran_in_clone(&project, &["apply"]).exits(64);
    assert!(ran.stderr.contains("lian::trust::ca_bundle"), "{}", ran.both());
}

#[test]
fn no_image_outside_the_project_is_read_before_it_is_granted() {
    let layout = tempfile::tempdir().expect("a folder");
    let ImageSource::Layout { dir, .. } = &buildkitd::stage().base else { panic!("the base is a layout") };
    for file in walkdir::WalkDir::new(dir).into_iter().flatten().filter(|entry| entry.file_type().is_file()) {
        let below = file.path().strip_prefix(dir).expect("below");
        let copy = layout.path().join(below);
        std::fs::create_dir_all(copy.parent().expect("a folder")).expect("a folder");
        std::fs::copy(file.path(), copy).expect("copied");
    }
    let watch = Canary::watching(&layout.path().join("index.json"));
    let project = Project::with_base();
    // The user's own substitute is for another image.
    let fields = BASE.replace("base.example", "other.example");
    project.layer("app", &fields, "FROM other.example/busybox:1\nRUN true\n");
    let pinned = format!("other.example/busybox:1@sha256:{}", "a".repeat(64));
    let fields = BASE.replace("base.example/busybox:1", &pinned);
    project.layer("pinned", &fields, &format!("FROM {pinned}\nRUN true\n"));
    symlink(layout.path(), project.path().join("images")).expect("a link");
    let with = |arguments: &[&str]| ran_in_clone(&project, arguments);
    for dir in [layout.path().display().to_string(), "../images".to_owned()] {
        workflow(&project, &format!("base_images = {{ \"other.example/busybox:1\" = \"oci-layout:{dir}\" }}"));
        for command in LOOKS.iter().chain(&COMMANDS) {
            let ran = with(command);
            assert_eq!(openings(&watch), 0, "{command:?}: {}", ran.both());
            if ["plan", "apply"].contains(&command[0]) {
                let ran = ran.exits(64);
                assert!(ran.stderr.contains("lian::trust::base_image"), "{command:?}: {}", ran.both());
                assert!(ran.stderr.contains(&*layout.path().display().to_string()), "{command:?}: {}", ran.both());
            }
        }
    }
    with(&["trust", "--yes"]).exits(0);
    with(&["apply"]).exits(0);
    assert!(openings(&watch) > 0, "what is granted is read");
    // Within the project none is needed, and no link in the layout is followed.
    let inside = project.path().join("own/blobs");
    std::fs::create_dir_all(&inside).expect("a folder");
    symlink(layout.path().join("blobs/sha256"), inside.join("sha256")).expect("a link");
    std::fs::copy(layout.path().join("index.json"), project.path().join("own/index.json")).expect("copied");
    workflow(&project, "base_images = { \"other.example/busybox:1\" = \"oci-layout:../own\" }");
    let ran = with(&["plan"]).exits(64);
    assert!(ran.stderr.contains("lian::registries") && ran.stderr.contains("link"), "{}", ran.both());
}
