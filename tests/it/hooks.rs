//! `check` where others call it: from a subfolder, from a worktree, and from git's own hook before a commit.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::project::{LIAN, Project, Ran, text};

const BASE: &str = "  build_base = { image = \"base.example/busybox:1\" },";

fn git(folder: &Path, arguments: &[&str]) -> Ran {
    let mut command = Command::new("git");
    command.current_dir(folder).args(["-c", "user.name=test", "-c", "user.email=test@test.example"]).args(arguments);
    // Nothing of this machine's own, and nothing of a hook that runs these tests.
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(variable);
    }
    command.output().expect("git runs").into()
}

/// A repository with one sound layer.
fn repository() -> Project {
    let project = Project::new();
    git(project.path(), &["init", "-q", "-b", "main"]).exits(0);
    project.layer("base", BASE, "FROM base.example/busybox:1\nCOPY . /\n");
    project.write("deep/er/note", "");
    project
}

/// One fault of each room that names files: Nickel, a context, a Dockerfile, the graph.
fn break_it(project: &Project) {
    project.write("catalog/torn/workflow.ncl", "{ name = \n");
    project.layer("lost", "  build_base = \"base\",\n  context = \"../../nowhere\",", "");
    project.layer("other", "  build_base = \"base\",", "FROM lamina/stranger\n");
    project.layer("poor", "  build_base = \"bsae\",", "FROM lamina/bsae\n");
}

fn check_in(folder: &Path, catalog: &str) -> Ran {
    let mut command = Command::new(LIAN);
    command.args(["check", "--format", "json", catalog]).current_dir(folder).env("NO_COLOR", "1");
    command.env("LIAN_DATA_DIR", "/nowhere");
    command.output().expect("the binary starts").into()
}

/// Codes and places of all faults; each file can be opened from the folder.
fn places(ran: &Ran, folder: &Path) -> Vec<(String, String)> {
    let json: Value = ran.json();
    let rows = json["diagnostics"].as_array().expect("diagnostics");
    let place = |row: &Value| {
        let file = text(&row["file"]);
        let content = std::fs::read_to_string(folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let line = row["line"].as_u64().expect("a line") as usize;
        assert!(line <= content.lines().count().max(1) + 1, "{row}");
        (text(&row["code"]).to_owned(), file.to_owned())
    };
    rows.iter().map(place).collect()
}

#[test]
fn a_catalog_may_be_named_from_anywhere_and_what_is_shown_can_be_opened_from_there() {
    let project = repository();
    let root = project.path();
    let absolute = root.join("catalog").display().to_string();
    for (folder, catalog) in [
        ("deep", "../catalog"),
        ("deep/er", "../../catalog"),
        ("catalog/base", ".."),
        ("catalog", "."),
        ("deep", &absolute),
    ] {
        let json = check_in(&root.join(folder), catalog).exits(0).json();
        assert_eq!((json["ok"].as_bool(), json["layers"].as_u64()), (Some(true), Some(1)), "{folder} {catalog}");
    }
    break_it(&project);
    let wanted = places(&check_in(root, "catalog").exits(1), root);
    let codes: Vec<&str> = wanted.iter().map(|(code, _)| code.as_str()).collect();
    for code in [
        "lian::nickel::parse",
        "lian::context::missing",
        "lian::dockerfile::base_mismatch",
        "lian::graph::unknown_base",
    ] {
        assert!(codes.contains(&code), "{code} is not among {codes:?}");
    }
    for (folder, catalog) in [
        ("deep", "../catalog"),
        ("deep/er", "../../catalog"),
        ("catalog", "."),
        (".", "./catalog"),
        ("deep", &absolute),
    ] {
        let folder = root.join(folder);
        let ran = check_in(&folder, catalog).exits(1);
        let found = places(&ran, &folder);
        assert_eq!(found.iter().map(|(code, _)| code.as_str()).collect::<Vec<_>>(), codes, "{}", ran.both());
        for ((_, file), (_, wanted)) in found.iter().zip(&wanted) {
            let same = |file: &Path| file.canonicalize().expect("it was read");
            assert_eq!(same(&folder.join(file)), same(&root.join(wanted)));
        }
    }
}

#[test]
fn in_a_worktree_the_project_is_the_worktree() {
    let project = repository();
    git(project.path(), &["add", "-A"]).exits(0);
    git(project.path(), &["commit", "-q", "-m", "sound"]).exits(0);
    let elsewhere = tempfile::tempdir().expect("a folder");
    let tree = elsewhere.path().join("tree");
    git(project.path(), &["worktree", "add", "-q", &tree.display().to_string()]).exits(0);
    check_in(&tree.join("deep"), "../catalog").exits(0);
    // Its `.git` is a file; what lies beside the worktree is outside the project all the same.
    let declaration = tree.join("catalog/base/workflow.ncl");
    let written = std::fs::read_to_string(&declaration).expect("a file");
    std::fs::write(&declaration, written.replace(BASE, &format!("{BASE}\n  context = \"../../..\","))).expect("a file");
    let ran = check_in(&tree.join("deep"), "../catalog").exits(1);
    let codes: Vec<String> = places(&ran, &tree.join("deep")).into_iter().map(|(code, _)| code).collect();
    assert!(codes.iter().any(|code| code == "lian::context::outside"), "{codes:?}");
}

/// The hook as `.pre-commit-hooks.yaml` declares it, its command replaced by the binary under test.
fn hook() -> (Vec<String>, String) {
    let text = include_str!("../../.pre-commit-hooks.yaml");
    let field = |name: &str| {
        let start = format!("  {name}: ");
        let line = text.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("no `{name}`")).trim_matches('\'').to_owned()
    };
    assert_eq!((field("language").as_str(), field("pass_filenames").as_str()), ("rust", "false"));
    let entry = field("entry");
    let mut words = entry.split(' ').map(str::to_owned);
    assert_eq!(words.next().as_deref(), Some("lian-build"));
    (words.collect(), field("files"))
}

#[test]
fn the_hook_lets_a_sound_catalog_through_and_stops_a_broken_one() {
    let project = repository();
    let script = project.path().join(".git/hooks/pre-commit");
    std::fs::create_dir_all(script.parent().expect("a folder")).expect("a folder");
    let (arguments, _) = hook();
    std::fs::write(&script, format!("#!/bin/sh\nexec '{LIAN}' {}\n", arguments.join(" "))).expect("a file");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("a mode");

    let deep = project.path().join("deep");
    let commit = || {
        git(project.path(), &["add", "-A"]).exits(0);
        git(&deep, &["commit", "-q", "-m", "a commit from a subfolder"])
    };
    commit().exits(0);
    break_it(&project);
    let ran = commit().exits(1);
    assert!(ran.stderr.contains("lian::graph::unknown_base"), "{}", ran.both());
    assert_eq!(git(&deep, &["rev-list", "--count", "HEAD"]).exits(0).stdout.trim(), "1");
}

#[test]
fn the_hook_wakes_for_every_file_that_check_reads() {
    let (_, files) = hook();
    let matches = |path: &str| {
        let mut grep = Command::new("grep");
        grep.args(["-E", "-q", "-e", &files]).stdin(std::process::Stdio::piped());
        let mut child = grep.spawn().expect("grep runs");
        std::io::Write::write_all(&mut child.stdin.take().expect("piped"), path.as_bytes()).expect("written");
        child.wait().expect("waited for").success()
    };
    for path in [
        "catalog/app/workflow.ncl",
        "catalog/catalog.ncl",
        "lib/helpers.ncl",
        "Dockerfile",
        "lamina/app/Dockerfile",
        "lamina/lian-build/Dockerfile.rust",
        "app.Dockerfile",
        "app/Containerfile",
        "app/.dockerignore",
        "app/Dockerfile.dockerignore",
        "app/Cargo.lock",
        "Cargo.toml",
        "app/recipe.json",
        "app/rust-toolchain.toml",
    ] {
        assert!(matches(path), "{path}");
    }
    for path in ["src/main.rs", "README.md", "docs/ncl.md", "cooking/recipe.json.md"] {
        assert!(!matches(path), "{path}");
    }
}
