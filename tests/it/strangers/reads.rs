//! Files that a stranger made to be read for ever, or to fill the memory, and such as lie elsewhere: each is refused, soon,
//! with little memory, and the message names it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Canary;
use crate::support::project::Project;

/// The most memory of a command, kB: its own, and what it and all its children have of their own.
const MEMORY_KB: u64 = 200_000;
/// The longest that a command takes.
const LONGEST: Duration = Duration::from_secs(60);

const BASE: &str = "  build_base = { image = \"base.example/busybox:1\" },";
const DOCKERFILE: &str = "FROM base.example/busybox:1\nCOPY . /c/\n";

fn project() -> Project {
    let project = Project::with_base();
    project.layer("app", BASE, DOCKERFILE);
    project
}

/// What is planted in place of a file.
const PLANTED: [&str; 5] = ["/dev/zero", "/etc/shadow", "pipe", "sparse", "folder"];

fn plant(path: &Path, what: &str) {
    match what {
        "pipe" => {
            let made = std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo runs");
            assert!(made.success());
        }
        "sparse" => File::create(path).and_then(|file| file.set_len(1 << 40)).expect("a sparse file"),
        "folder" => std::fs::create_dir(path).expect("a folder"),
        target => symlink(target, path).expect("a link"),
    }
}

/// Runs a command to its end under a watch of its time and its memory; returns its exit code and what it said.
#[track_caller]
fn bounded(project: &Project, arguments: &[&str]) -> (i32, String) {
    watched(project, project.command(arguments))
}

/// The same for any command in a project.
#[track_caller]
pub(super) fn watched(project: &Project, mut command: Command) -> (i32, String) {
    let said = project.data().join(format!("said-{}", unique()));
    let file = File::create(&said).expect("writable");
    command.stdout(file.try_clone().expect("a handle")).stderr(file);
    let began = Instant::now();
    let mut child = command.spawn().expect("it starts");
    let (mut most, mut looked) = (0, began);
    let code = loop {
        if let Some(status) = child.try_wait().expect("waited for") {
            break status.code().unwrap_or(-1);
        }
        most = most.max(peak_kb(child.id()));
        if looked.elapsed() > Duration::from_millis(50) {
            most = most.max(family_kb(child.id()));
            looked = Instant::now();
        }
        if began.elapsed() > LONGEST || most > MEMORY_KB {
            child.kill().expect("killed");
            child.wait().expect("ended");
            let said = std::fs::read_to_string(&said).expect("said");
            panic!("{command:?} goes on after {:?} with {most} kB: {said}", began.elapsed());
        }
        // Only how often the memory is looked at.
        std::thread::sleep(Duration::from_millis(5));
    };
    let text = String::from_utf8_lossy(&std::fs::read(&said).expect("said")).into_owned();
    std::fs::remove_file(&said).expect("removed");
    assert!(most < MEMORY_KB, "{command:?} took {most} kB: {text}");
    (code, text)
}

/// The most memory that a process has had so far.
fn peak_kb(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// The memory that a process and its children, and theirs, have for themselves now, kB: no code, no files.
fn family_kb(id: u32) -> u64 {
    let status = |id: &str| std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let field = |status: &str, name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok())
    };
    let entries = std::fs::read_dir("/proc").expect("readable").flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let all: Vec<(u64, u64, u64)> = numbers
        .filter_map(|name| {
            let (id, text) = (name.parse().ok()?, status(&name));
            Some((id, field(&text, "PPid:")?, field(&text, "RssAnon:").unwrap_or(0)))
        })
        .collect();
    let mut family = BTreeSet::from([u64::from(id)]);
    loop {
        let known = family.len();
        family.extend(
            all.iter().filter(|(_, parent, _)| family.contains(parent)).map(|(id, ..)| *id).collect::<Vec<_>>(),
        );
        if family.len() == known {
            break;
        }
    }
    all.iter().filter(|(id, ..)| family.contains(id)).map(|(.., kb)| kb).sum()
}

fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed) + (u64::from(std::process::id()) << 32)
}

/// The command fails, names what it refused, and took little time for it.
#[track_caller]
fn refuses(project: &Project, arguments: &[&str], named: &str) {
    let began = Instant::now();
    let (code, text) = bounded(project, arguments);
    assert!(code != 0 && code != 70 && text.contains(named), "{arguments:?}, {named}: exit {code}\n{text}");
    assert!(began.elapsed() < Duration::from_secs(20), "{arguments:?}: {:?}", began.elapsed());
    assert!(!text.contains("root:"), "{text}");
}

#[test]
fn no_file_that_is_read_whole_is_anything_else_than_a_small_file_of_the_project() {
    let canary = Canary::new();
    for file in ["catalog/app/.dockerignore", "catalog/app/Dockerfile.dockerignore", "catalog/lian.lock"] {
        // BuildKit takes a folder in place of an ignore file for none.
        let folders = file == "catalog/lian.lock";
        for what in PLANTED.into_iter().filter(|what| folders || *what != "folder") {
            let project = project();
            plant(&project.path().join(file), what);
            let name = file.rsplit('/').next().expect("a name");
            refuses(&project, &["plan"], name);
            refuses(&project, &["apply"], name);
            if !folders {
                refuses(&project, &["check"], name);
            }
        }
    }
    for file in ["catalog/app/Dockerfile", "catalog/app/workflow.ncl", "catalog/catalog.ncl", "workflows/local.ncl"] {
        for what in PLANTED {
            let project = project();
            let path = project.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
            if path.exists() {
                std::fs::remove_file(&path).expect("removed");
            }
            plant(&path, what);
            let workflow: &[&str] = if file.starts_with("workflows") { &["--workflow", file] } else { &[] };
            let arguments = [&["check"], workflow].concat();
            let name = if workflow.is_empty() { file.rsplit('/').next().expect("a name") } else { "workflows/" };
            refuses(&project, &arguments, name);
        }
    }
    canary.is_whole("reading");
}

#[test]
fn what_stands_where_a_file_may_be_absent_is_not_passed_over() {
    for (file, name) in [("catalog/app/.build-spec.ncl", ".build-spec.ncl"), ("workflows/local.ncl", "workflows/")] {
        for what in PLANTED.into_iter().chain(["nowhere"]) {
            let project = project();
            let path = project.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("writable");
            plant(&path, what);
            refuses(&project, &["plan"], name);
        }
    }
}

#[test]
fn what_nickel_imports_is_a_small_file_of_the_project_too() {
    for import in ["import \"it\" as 'Text", "import \"it\" as 'Json", "import \"it.ncl\""] {
        let name = if import.contains(".ncl") { "it.ncl" } else { "it" };
        for what in PLANTED {
            let project = project();
            let declaration =
                format!("let seen = {import} in {{ name = \"app\", kind = 'utility,{BASE} build_args.SEEN = seen }}");
            project.write("catalog/app/workflow.ncl", &declaration);
            plant(&project.path().join("catalog/app").join(name), what);
            refuses(&project, &["check"], name);
        }
    }
}

#[test]
fn what_declarations_make_of_little_text_is_bounded_for_all_children_together() {
    let array = "std.string.join \"\" (std.array.replicate 100000000 \"x\")";
    let list = "std.serialize 'Json (import \"deep.json\")";
    let number = "std.to_string (std.number.pow 10 1000000000)";
    let project = project();
    // So many that several children run at once.
    for (at, hostile) in [array, list, number].into_iter().cycle().enumerate().take(27) {
        project.layer(&format!("hostile{at}"), &format!("{BASE}\n  labels.x = ({hostile}),"), DOCKERFILE);
        let deep = [["["; 100_000].concat(), ["]"; 100_000].concat()].concat();
        project.write(&format!("catalog/hostile{at}/deep.json"), &deep);
    }
    let (code, text) = bounded(&project, &["check"]);
    assert!(code == 1 && text.contains("lian::nickel::limit"), "exit {code}\n{text}");
    assert!(!text.contains("unexpected token"), "{text}");
}

#[test]
fn what_declarations_answer_is_bounded_for_all_together() {
    let project = project();
    for at in 0..60 {
        let long = "std.array.replicate 3000000 \"x\" |> std.string.join \"\"";
        project.layer(&format!("long{at}"), &format!("{BASE}\n  labels.x = ({long}),"), DOCKERFILE);
    }
    let (code, text) = bounded(&project, &["check"]);
    assert!(code == 1 && text.contains("lian::nickel::limit"), "exit {code}\n{text}");
}

#[test]
fn a_whole_check_has_a_budget() {
    let project = project();
    for number in 0..6 {
        project.write(&format!("catalog/loop{number}/workflow.ncl"), "let rec f = fun x => f x in f 1");
    }
    let began = Instant::now();
    let (code, text) = bounded(&project, &["check", "--check-budget", "3"]);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert!(code == 1 && text.contains("used up 3.0s") && text.contains("--check-budget"), "exit {code}\n{text}");
    let began = Instant::now();
    let (code, text) = bounded(&project, &["check"]);
    assert!(code == 1 && began.elapsed() < Duration::from_secs(35), "exit {code} {:?}\n{text}", began.elapsed());
}

#[test]
fn a_context_of_a_terabyte_is_refused_and_its_largest_file_named() {
    let project = project();
    plant(&project.path().join("catalog/app/huge.bin"), "sparse");
    for command in ["plan", "apply"] {
        refuses(&project, &[command], "huge.bin");
    }
    let (_, text) = bounded(&project, &["plan"]);
    assert!(text.contains("lian::context::too_large") && text.contains(".dockerignore"), "{text}");
    project.write("catalog/app/.dockerignore", "huge.bin\n");
    assert_eq!(bounded(&project, &["plan"]).0, 0);
}

#[test]
fn a_context_of_very_many_files_is_refused() {
    let project = project();
    for number in 0..50 {
        project.write(&format!("catalog/app/files/{number}"), "");
    }
    let plan = |most: &str| project.command(&["plan"]).env("LIAN_CONTEXT_FILES", most).output().expect("it starts");
    let refused = plan("20");
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("lian::context::too_many"), "{text}");
    assert!(plan("1000").status.success());
}

#[test]
fn a_long_read_says_what_it_reads() {
    let project = project();
    let file = File::create(project.path().join("catalog/app/large.bin")).expect("a file");
    file.set_len(20_000_000_000).expect("a sparse file");
    let mut command = project.command(&["plan"]);
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    let said = lines.find(|line| line.contains("takes long"));
    child.kill().expect("it still reads");
    child.wait().expect("ended");
    let said = said.expect("a line about it");
    assert!(said.contains("large.bin") && said.contains("B so far"), "{said}");
}

#[test]
fn a_line_of_seventy_thousand_columns_hides_no_other_fault() {
    let project = project();
    let far = " ".repeat(70_000);
    project.layer("wide", &format!("{BASE}{far}unknown_field = 1,"), DOCKERFILE);
    project.layer("other", "  build_base = \"nowhere\",", DOCKERFILE);
    let (code, text) = bounded(&project, &["check"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("unknown_field") && text.contains("nowhere"), "{text}");
    project.write("catalog/lian.lock", &format!("{{{}\"version\": x}}", " ".repeat(100_000)));
    std::fs::remove_dir_all(project.path().join("catalog/wide")).expect("removed");
    std::fs::remove_dir_all(project.path().join("catalog/other")).expect("removed");
    refuses(&project, &["plan"], "lian.lock");
}
