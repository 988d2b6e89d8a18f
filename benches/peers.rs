//! lian-build beside its peers, in one run: `check` beside one `nickel export` a file, and a tree of twelve layers beside
//! `docker buildx bake` on the same buildkitd. Prints medians and the ratio of each pair; asserts nothing about time.
//!
//! `make bench` installs the peers. A missing peer is said, and its rows are left out.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lian_build::domain::ports::ImageSource;

#[path = "../tests/it/support/buildkitd.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod buildkitd;

const LIAN: &str = env!("CARGO_BIN_EXE_lian-build");
const RUNS: usize = 5;

fn main() {
    // `cargo bench` hands over flags such as --bench; there is nothing to choose here.
    println!("{:<44} {:>10} {:>10} {:>7}", "", "lian-build", "peer", "ratio");
    for layers in [100, 1_000] {
        check(layers);
    }
    if find("buildx").is_some() {
        tree();
    } else {
        println!("docker buildx is not here: `make bench` installs it");
    }
}

fn find(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::Builder::new().prefix("lian-bench-").tempdir().expect("a temporary folder");
    std::fs::create_dir(dir.path().join(".git")).expect("writable");
    dir
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("below a folder")).expect("writable");
    std::fs::write(path, text).expect("writable");
}

/// Runs a command to its end; its time. Its output is shown where it fails.
fn time(command: &mut Command) -> Duration {
    let started = Instant::now();
    let output = command.stdin(Stdio::null()).output().expect("the command starts");
    let took = started.elapsed();
    assert!(
        output.status.success(),
        "{command:?}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    took
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// One row: both medians, and the median of the pairs' ratios.
fn row(name: &str, pairs: &[(Duration, Duration)]) {
    let ours = median(pairs.iter().map(|pair| pair.0).collect());
    let theirs = median(pairs.iter().map(|pair| pair.1).collect());
    let mut ratios: Vec<f64> = pairs.iter().map(|(a, b)| a.as_secs_f64() / b.as_secs_f64()).collect();
    ratios.sort_by(f64::total_cmp);
    println!(
        "{name:<44} {:>8.0}ms {:>8.0}ms {:>6.2}x",
        ours.as_secs_f64() * 1e3,
        theirs.as_secs_f64() * 1e3,
        ratios[ratios.len() / 2]
    );
}

/// A layer's declaration, some twenty lines long.
fn declaration(index: usize, base: &str) -> String {
    let mut text = format!(
        "let {{ Layer, .. }} = import \"schemas/workflow.ncl\" in\n{{\n  name = \"layer-{index}\",\n  kind = 'utility,\n  build_base = {base},\n"
    );
    let _ = writeln!(text, "  tools_provided = [\"tool-{index}\"],\n  artifact_paths = [\"/opt/tool-{index}\"],");
    text.push_str("  build_args = {\n");
    for argument in 0..8 {
        let _ = writeln!(text, "    ARG_{argument} = \"value {argument} of {index}\",");
    }
    text.push_str("  },\n  language = \"rust\",\n} | Layer\n");
    text
}

fn check(layers: usize) {
    let dir = folder();
    for index in 0..layers {
        let at = dir.path().join("catalog").join(format!("layer-{index}"));
        let (base, from) = match index {
            0 => ("{ image = \"debian:trixie-slim\" }".to_owned(), "debian:trixie-slim".to_owned()),
            _ => {
                let parent = (index - 1) / 4;
                (format!("\"layer-{parent}\""), format!("lamina/layer-{parent}"))
            }
        };
        write(&at.join("workflow.ncl"), &declaration(index, &base));
        write(&at.join("Dockerfile"), &format!("FROM {from}\nRUN echo {index}\n"));
    }
    let ours = || time(Command::new(LIAN).arg("check").current_dir(dir.path()));
    ours();
    let Some(nickel) = find("nickel") else {
        let times: Vec<_> = (0..RUNS).map(|_| ours()).collect();
        println!("check, {layers} layers: {:?}; nickel is not here to compare with", median(times));
        return;
    };
    // The peer resolves the schemas from a folder; lian-build brings them along.
    time(Command::new(LIAN).args(["schemas", "--export", "exported"]).current_dir(dir.path()));
    let theirs = || {
        let started = Instant::now();
        for index in 0..layers {
            let file = format!("catalog/layer-{index}/workflow.ncl");
            time(Command::new(&nickel).args(["export", &file, "-I", "exported"]).current_dir(dir.path()));
        }
        started.elapsed()
    };
    let rounds = if layers > 500 { 1 } else { 3 };
    let pairs: Vec<_> = (0..rounds).map(|_| (median((0..RUNS).map(|_| ours()).collect()), theirs())).collect();
    row(&format!("check, {layers} layers, beside nickel export"), &pairs);
}

/// Twelve layers: a root, three below it, eight below those. `salt` makes every step new.
fn write_tree(dir: &Path, salt: usize) {
    let mut bake = String::new();
    let names: Vec<String> = (0..12).map(|index| format!("l{index:02}")).collect();
    let _ = writeln!(bake, "group \"default\" {{ targets = {names:?} }}");
    for (index, name) in names.iter().enumerate() {
        let parent = match index {
            0 => None,
            1..=3 => Some(0),
            _ => Some(1 + index % 3),
        };
        let from = parent.map_or("base.example/busybox:1".to_owned(), |parent: usize| format!("lamina/l{parent:02}"));
        let base = parent
            .map_or("{ image = \"base.example/busybox:1\" }".to_owned(), |parent: usize| format!("\"l{parent:02}\""));
        let at = dir.join("catalog").join(name);
        let header = "let { Layer, .. } = import \"schemas/workflow.ncl\" in";
        write(
            &at.join("workflow.ncl"),
            &format!("{header}\n{{ name = \"{name}\", kind = 'utility, build_base = {base} }} | Layer\n"),
        );
        write(&at.join("Dockerfile"), &format!("FROM {from}\nRUN echo {salt} > /{name}\n"));
        let context = parent.map_or_else(
            || format!("\"base.example/busybox:1\" = \"oci-layout://{}\"", busybox().display()),
            |parent| format!("\"lamina/l{parent:02}\" = \"target:l{parent:02}\""),
        );
        let out = dir.join("baked").join(name);
        let _ = writeln!(
            bake,
            "target \"{name}\" {{\n  context = \"catalog/{name}\"\n  contexts = {{ {context} }}\n  output = [\"type=oci,tar=false,dest={}\"]\n}}",
            out.display()
        );
    }
    write(&dir.join("docker-bake.hcl"), &bake);
}

/// The busybox image that the tests build upon.
fn busybox() -> PathBuf {
    match &buildkitd::stage().base {
        ImageSource::Layout { dir, .. } => dir.clone(),
        ImageSource::Registry { .. } => unreachable!("the tests' base is a layout"),
    }
}

fn tree() {
    let dir = folder();
    let socket = buildkitd::stage().daemon.address();
    let buildx = |arguments: &[&str]| {
        let mut command = Command::new(find("buildx").expect("found before"));
        command
            .args(arguments)
            .current_dir(dir.path())
            .env("BUILDX_NO_DEFAULT_ATTESTATIONS", "1")
            .env("BUILDX_BAKE_ENTITLEMENTS_FS", "0")
            .env("BUILDX_CONFIG", dir.path().join("buildx"));
        command
    };
    time(&mut buildx(&["create", "--name", "peer", "--driver", "remote", socket]));
    let substitute = format!("base.example/busybox:1=oci-layout:{}", busybox().display());
    let ours = || {
        let mut command = Command::new(LIAN);
        command.args(["apply", "--quiet", "--parallel", "4", "--base-image", &substitute]).current_dir(dir.path());
        command.env("BUILDKIT_HOST", socket);
        time(&mut command)
    };
    let theirs = || time(&mut buildx(&["bake", "--builder", "peer", "--progress", "quiet"]));
    let (mut cold, mut unchanged) = (Vec::new(), Vec::new());
    for round in 0..RUNS {
        // Each side's cold run has steps of its own, so that neither finds the other's in the daemon's cache.
        write_tree(dir.path(), 2 * round + std::process::id() as usize * 100);
        let a = ours();
        let again = ours();
        write_tree(dir.path(), 2 * round + 1 + std::process::id() as usize * 100);
        let b = theirs();
        unchanged.push((again, theirs()));
        cold.push((a, b));
    }
    row("12 layers, cold, beside buildx bake", &cold);
    row("12 layers, unchanged, beside buildx bake", &unchanged);
}
