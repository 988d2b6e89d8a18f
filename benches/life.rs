//! What the life of a build on a runner costs, by phase, beside plain `ssh` + `rsync` + `buildctl` in a shell script; and how
//! close twelve layers on four runners come to what is possible. Prints medians and ratios; asserts nothing about time.
//!
//! Every build has a host of its own: a namespace with sshd, rsync and a fresh buildkitd, booted before the clock starts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

#[path = "../tests/it/support"]
#[allow(dead_code, reason = "the tests use more of it")]
mod support {
    pub mod buildkitd;
    pub mod clock;
    pub mod machines;
    pub mod registry;
    pub mod sandbox;
}

use support::buildkitd;
use support::registry::Registry;
use support::sandbox::{Sandbox, key_pair, meeting_place, registry_ports};

const LIAN: &str = env!("CARGO_BIN_EXE_lian-build");
const RUNS: usize = 7;
/// Files of the context, one kilobyte each.
const FILES: usize = 500;
const PLATFORM: &str = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };

/// The peer: what somebody would write by hand, with a pinned host key and one master connection.
const SCRIPT: &str = r#"
set -eu
mark() { echo "$1 $(date +%s%N)"; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
echo "runner $HOST_KEY" >"$dir/known_hosts"
options="-F none -o HostKeyAlias=runner -o UserKnownHostsFile=$dir/known_hosts -o StrictHostKeyChecking=yes -o BatchMode=yes"
options="$options -o IdentitiesOnly=yes -o IdentityFile=$KEY -o KexAlgorithms=^curve25519-sha256 -o LogLevel=ERROR"
options="$options -o ControlPath=$dir/m"
mark begin
ssh $options -M -f -N "root@$ADDRESS"
until ssh $options "root@$ADDRESS" test -S /run/buildkit/buildkitd.sock; do :; done
mark syncing
rsync -rlpt -e "ssh $options" "$CONTEXT/" "root@$ADDRESS:/workspace/"
mark building
ssh $options "root@$ADDRESS" buildctl --addr unix:///run/buildkit/buildkitd.sock build --progress=rawjson \
  --frontend dockerfile.v0 --local context=/workspace --local dockerfile=/workspace \
  --output "type=image,name=$IMAGE,push=true,compression=zstd,compression-level=1,oci-mediatypes=true" 2>"$dir/log"
mark ending
ssh $options -O exit "root@$ADDRESS" 2>/dev/null
mark end
"#;

fn main() {
    let place = Place::new();
    place.life();
    place.makespan();
}

struct Place {
    registry: String,
    _registry: Registry,
    keys: tempfile::TempDir,
    public: String,
}

/// Where the time went, by phase, in the order of the phases.
type Phases = Vec<(String, Duration)>;

impl Place {
    fn new() -> Self {
        let started = Registry::everywhere();
        let registry = format!("{}:{}", meeting_place(), started.port());
        registry_ports().lock().expect("whole").insert(registry.clone());
        let keys = tempfile::tempdir().expect("a folder");
        let (_, public) = key_pair(keys.path());
        Self { registry, _registry: started, keys, public }
    }

    fn key(&self) -> PathBuf {
        self.keys.path().join("id")
    }

    /// A host whose daemon answers.
    fn host(&self) -> Sandbox {
        let host = Sandbox::with(&self.public, 4, 64);
        while host.run("buildctl debug workers >/dev/null 2>&1 && pgrep -x sshd >/dev/null && echo ready").is_empty() {
            std::thread::sleep(Duration::from_millis(20));
        }
        host
    }

    /// A workflow over these hosts.
    fn workflow(&self, hosts: &[&Sandbox], parallel: usize) -> String {
        let list: Vec<String> = hosts
            .iter()
            .map(|host| {
                format!(
                    "{{ address = \"{}\", host_key = \"{}\", identity = \"{}\", cpu = 4, memory_gb = 64, platform = \
                     \"{PLATFORM}\" }}",
                    host.address,
                    host.host_key,
                    self.key().display()
                )
            })
            .collect();
        format!(
            "let {{ Workflow, .. }} = import \"schemas/workflow.ncl\" in\n{{ compute_provider = 'ssh, parallel = {parallel}, \
             providers.ssh.hosts = [{}], registry_provider = 'registry, \
             registry = {{ address = \"{}/ours\", plain_http = true }} }} | Workflow\n",
            list.join(", "),
            self.registry
        )
    }

    fn life(&self) {
        let project = tempfile::tempdir().expect("a folder");
        let context = project.path().join("context");
        std::fs::create_dir_all(project.path().join(".git")).expect("writable");
        for file in 0..FILES {
            write(&context.join(format!("src/{}/{file}.txt", file % 20)), &format!("{file:01024}"));
        }
        std::fs::copy(buildkitd::busybox(), context.join("busybox")).expect("a copy");
        write(
            &context.join("Dockerfile"),
            "FROM scratch\nCOPY busybox /bin/busybox\nCOPY . /src\nRUN [\"/bin/busybox\", \"true\"]\n",
        );
        let (mut ours, mut theirs): (Vec<Phases>, Vec<Phases>) = (Vec::new(), Vec::new());
        for run in 0..=RUNS {
            // What a push brings: one file is another.
            write(&context.join("src/main.txt"), &run.to_string());
            let pair = (self.ours(project.path()), self.theirs(&context));
            // The first pair warms caches of files.
            if run > 0 {
                ours.push(pair.0);
                theirs.push(pair.1);
            }
        }
        println!("the life of one build, {FILES} files of context, medians of {RUNS} pairs");
        for (name, phases) in [("lian-build dispatch", &ours), ("ssh + rsync + buildctl", &theirs)] {
            let mut line = format!("  {name:<24}{:>7.0}ms  ", middle(phases.iter().map(total).collect()));
            for (at, (phase, _)) in phases[0].iter().enumerate() {
                let times = phases.iter().map(|all| all[at].1).collect();
                let _ = write!(line, " {phase} {:.0}", middle(times));
            }
            println!("{line}");
        }
        for (name, of) in [("the whole process", 0), ("from asking for the runner to its return", 1)] {
            let took = |phases: &Phases| phases[of..].iter().map(|(_, took)| took.as_secs_f64()).sum::<f64>();
            let mut ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(a, b)| took(a) / took(b)).collect();
            ratios.sort_by(f64::total_cmp);
            println!("  ratio {:.2} ({:.2} to {:.2}): {name}", ratios[RUNS / 2], ratios[0], ratios[RUNS - 1]);
        }
    }

    fn ours(&self, project: &Path) -> Phases {
        let host = self.host();
        write(&project.join("workflow.ncl"), &self.workflow(&[&host], 1));
        let mut command = Command::new(LIAN);
        command.args(["dispatch", "--context", "context", "--workflow", "workflow.ncl", "--format", "json"]);
        command.current_dir(project).env("LIAN_DATA_DIR", project.join("data"));
        let begun = now();
        let events = events(&mut command);
        let ended = now();
        let mut marks = vec![("start".to_owned(), begun)];
        for event in &events {
            let at = event["at"].as_u64().expect("a time") as f64 / 1e3;
            match event["type"].as_str().expect("a type") {
                "step.phase" => marks.push((event["phase"].as_str().expect("a phase").to_owned(), at)),
                "step.finished" => marks.push(("ending".to_owned(), at)),
                _ => {}
            }
        }
        marks.push(("end".to_owned(), ended));
        between(&marks)
    }

    fn theirs(&self, context: &Path) -> Phases {
        let host = self.host();
        let mut command = Command::new("bash");
        command.args(["-c", SCRIPT]).env("HOST_KEY", &host.host_key).env("ADDRESS", host.address.to_string());
        command.env("KEY", self.key()).env("CONTEXT", context).env("IMAGE", format!("{}/theirs:latest", self.registry));
        let begun = now();
        let text = output(&mut command);
        let mut marks = vec![("start".to_owned(), begun)];
        for line in text.lines() {
            let (name, at) = line.split_once(' ').expect("a mark");
            marks.push((name.to_owned(), at.parse::<f64>().expect("a time") / 1e9));
        }
        between(&marks)
    }

    /// Twelve layers in four floors, steps of one to two and a half seconds, on four hosts.
    fn makespan(&self) {
        let parents =
            [None, Some(0), Some(0), Some(0), Some(1), Some(1), Some(2), Some(2), Some(3), Some(4), Some(6), Some(8)];
        let tenths: [u64; 12] = [10, 15, 20, 12, 25, 11, 18, 13, 22, 14, 16, 12];
        let project = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(project.path().join(".git")).expect("writable");
        for (at, parent) in parents.iter().enumerate() {
            let (base, from) = match parent {
                Some(parent) => (format!("\"l{parent}\""), format!("FROM lamina/l{parent}\n")),
                None => ("{ image = \"scratch\" }".to_owned(), "FROM scratch\nCOPY busybox /bin/busybox\n".to_owned()),
            };
            let folder = project.path().join(format!("catalog/l{at}"));
            write(
                &folder.join("workflow.ncl"),
                &format!(
                    "let {{ Layer, .. }} = import \"schemas/workflow.ncl\" in\n{{ name = \"l{at}\", kind = 'utility, \
                     build_base = {base} }} | Layer\n"
                ),
            );
            let seconds = tenths[at] as f64 / 10.0;
            write(&folder.join("Dockerfile"), &format!("{from}RUN [\"/bin/busybox\", \"sleep\", \"{seconds:.1}\"]\n"));
            if parent.is_none() {
                std::fs::copy(buildkitd::busybox(), folder.join("busybox")).expect("a copy");
            }
        }
        let mut finish = [0; 12];
        for at in 0..12 {
            finish[at] = tenths[at] + parents[at].map_or(0, |parent: usize| finish[parent]);
        }
        let (path, work) = (finish.iter().max().copied().unwrap_or(0), tenths.iter().sum::<u64>());
        let bound = (path as f64 / 10.0).max(work as f64 / 40.0);
        let mut times = Vec::new();
        for _ in 0..3 {
            let hosts: Vec<Sandbox> = (0..4).map(|_| self.host()).collect();
            let all: Vec<&Sandbox> = hosts.iter().collect();
            write(&project.path().join("workflows/local.ncl"), &self.workflow(&all, 4));
            let mut command = Command::new(LIAN);
            command.args(["apply", "--format", "json", "--force", "l0"]).current_dir(project.path());
            command.env("LIAN_DATA_DIR", project.path().join("data"));
            let started = Instant::now();
            let built = events(&mut command).iter().filter(|event| event["outcome"] == "built").count();
            assert_eq!(built, 12, "not all twelve were built");
            times.push(started.elapsed());
        }
        let took = middle(times) / 1e3;
        println!(
            "twelve layers on four runners: {took:.2} s; the bound max(critical path, work ÷ width) is {bound:.2} s: ratio {:.2}",
            took / bound
        );
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

/// What passed between one mark and the next, summed by the first one's name.
fn between(marks: &[(String, f64)]) -> Phases {
    let mut phases: Phases = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for pair in marks.windows(2) {
        let took = Duration::from_secs_f64((pair[1].1 - pair[0].1).max(0.0));
        let at = *places.entry(pair[0].0.clone()).or_insert_with(|| {
            phases.push((pair[0].0.clone(), Duration::ZERO));
            phases.len() - 1
        });
        phases[at].1 += took;
    }
    phases
}

fn total(phases: &Phases) -> Duration {
    phases.iter().map(|(_, took)| *took).sum()
}

/// The median, milliseconds.
fn middle(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e3
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("below a folder")).expect("writable");
    std::fs::write(path, text).expect("writable");
}

/// What a command prints; everything is shown where it fails.
fn output(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("the command starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}\n{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn events(command: &mut Command) -> Vec<Value> {
    output(command).lines().map(|line| serde_json::from_str(line).expect("an event")).collect()
}
