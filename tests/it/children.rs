//! What the programs that lian-build starts know of its environment: what they need, and no token.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::buildkitd;
use crate::support::project::{Project, Ran};
use crate::travel::place;

/// Tokens of lian-build's own, and others that a user may have set.
const TOKENS: [&str; 6] =
    ["HCLOUD_TOKEN", "PROXMOX_TOKEN", "LIAN_POOL_TOKEN", "GITHUB_TOKEN", "NPM_TOKEN", "CARGO_REGISTRY_TOKEN"];

/// What the processes of one command knew.
#[derive(Default)]
struct Seen {
    /// The programs that were started by it.
    programs: BTreeSet<String>,
    /// Those of them that knew a token.
    told: BTreeSet<String>,
    /// Those that knew the secret of the layer.
    trusted: BTreeSet<String>,
}

/// Runs a command, and looks at the environments of all processes on this machine while it runs. Its own ones bear a mark.
fn watched(mut command: Command) -> (Ran, Seen) {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let word = |what: &str| format!("{what}-{}-{number}-end", std::process::id());
    let (mark, token, secret) = (word("mark"), word("token"), word("secret"));
    command.env("LC_MARK", &mark).env("OF_THE_LAYER", &secret).envs(TOKENS.map(|name| (name, &token)));
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = command.spawn().expect("the binary starts");
    let ours = child.id();
    let ended = std::thread::spawn(move || child.wait_with_output().expect("it ends"));
    let mut seen = Seen::default();
    let began = Instant::now();
    while !ended.is_finished() {
        assert!(began.elapsed() < Duration::from_secs(120), "the command goes on and on");
        look(ours, [&mark, &token, &secret], &mut seen);
    }
    let ran: Ran = ended.join().expect("it ended").into();
    assert!(!ran.both().contains(&token), "{}", ran.both());
    (ran, seen)
}

fn look(ours: u32, [mark, token, secret]: [&String; 3], seen: &mut Seen) {
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let environment = String::from_utf8_lossy(&read("environ")).into_owned();
        if pid == ours || !environment.contains(mark.as_str()) {
            continue;
        }
        // A child that has not become another program yet is still this one.
        if read("cmdline") == std::fs::read(format!("/proc/{ours}/cmdline")).unwrap_or_default() {
            continue;
        }
        let program = String::from_utf8_lossy(&read("comm")).trim().to_owned();
        if environment.contains(token.as_str()) {
            seen.told.insert(program.clone());
        }
        if environment.contains(secret.as_str()) {
            seen.trusted.insert(program.clone());
        }
        seen.programs.insert(program);
    }
}

fn names(seen: &BTreeSet<String>) -> Vec<&str> {
    seen.iter().map(String::as_str).collect()
}

#[test]
fn no_child_of_a_local_build_knows_a_token() {
    let project = Project::with_base();
    let fields =
        "  build_base = { image = \"base.example/busybox:1\" },\n  secrets = [{ id = \"s\", env = \"OF_THE_LAYER\" }],";
    let steps = "FROM base.example/busybox:1\n\
                 RUN --mount=type=secret,id=s grep -q secret /run/secrets/s && sleep 1\n\
                 RUN env; cat /proc/*/environ; true\n";
    project.layer("app", fields, steps);
    let data = buildkitd::scratch();
    let mut command = project.command(&["apply", "--format", "json"]);
    // A daemon of its own, which this command starts.
    command.env_remove("BUILDKIT_HOST").env("LIAN_DATA_DIR", data.path()).env("LIAN_DAEMON_IDLE", "1s");
    let (ran, seen) = watched(command);
    let ran = ran.exits(0);
    assert_eq!(ran.outcomes(), ["app=built"]);
    assert!(["buildctl", "buildkitd"].iter().all(|name| seen.programs.contains(*name)), "{:?}", seen.programs);
    assert_eq!(names(&seen.told), [] as [&str; 0]);
    assert_eq!(names(&seen.trusted), ["buildctl"]);
}

#[test]
fn no_child_of_a_build_elsewhere_knows_a_token() {
    let place = place();
    let project = &place.project;
    project.layer(
        "app",
        "  build_base = { image = \"base.example/busybox:1\" },",
        "FROM base.example/busybox:1\nRUN sleep 1; env\n",
    );
    let (ran, seen) = watched(project.command(&["apply", "--format", "json"]));
    ran.exits(0);
    assert!(seen.programs.contains("ssh"), "{:?}", seen.programs);
    assert_eq!(names(&seen.told), [] as [&str; 0]);
    assert_eq!(names(&seen.trusted), [] as [&str; 0]);
}
