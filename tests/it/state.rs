//! Where a project's state is: with the user, and not in the tree. What is there of an earlier version is taken over once,
//! and only if it is the user's own.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::Command;

use crate::support::git::git;
use crate::support::project::{Project, Ran, text};

const BASE: &str = "  build_base = { image = \"base.example/busybox:1\" },";

fn one_layer() -> Project {
    let project = Project::with_base();
    project.layer("base", BASE, "FROM base.example/busybox:1\nRUN echo base > /base\n");
    project
}

/// A project as an earlier version left it: its state in `.lian`, and none with the user.
fn of_before() -> Project {
    let project = one_layer();
    project.lian(&["apply"]).exits(0);
    let legacy = project.path().join(".lian");
    std::fs::rename(project.state(), &legacy).expect("same disk");
    std::fs::remove_file(legacy.join("project.json")).expect("a record");
    project.write(".lian/.gitignore", "*\n");
    project
}

fn everything_below(folder: &Path) -> impl Iterator<Item = walkdir::DirEntry> + use<> {
    walkdir::WalkDir::new(folder).into_iter().map(|entry| entry.expect("readable"))
}

fn runs(ran: &Ran) -> usize {
    ran.json()["runs"].as_array().map_or(0, Vec::len)
}

#[test]
fn state_is_the_users_and_for_nobody_else_and_the_tree_stays_as_it_was() {
    let project = one_layer();
    let before: Vec<_> = everything_below(project.path()).map(|entry| entry.path().to_owned()).collect();
    let told = project.lian(&["where", "--format", "json"]).exits(0).json();
    let state = project.state();
    assert_eq!(Path::new(text(&told["state"])), state);
    assert_eq!(Path::new(text(&told["layout"])), state.join("images"));
    assert_eq!(Path::new(text(&told["root"])), std::fs::canonicalize(project.path()).expect("a folder"));
    assert_eq!((Path::new(text(&told["user"])), &told["exists"]), (project.data(), &serde_json::json!(false)));
    assert_eq!(std::fs::read_dir(project.data()).expect("readable").count(), 0, "`where` made something");
    // Whatever the umask is: nobody else reads it.
    let mut command = project.command(&["apply"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "umask 000; exec \"$@\"", "sh"]).arg(command.get_program()).args(command.get_args());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir(project.path());
    Ran::from(shell.output().expect("it starts")).exits(0);
    let mode = |path: &Path| std::fs::metadata(path).expect("there").mode() & 0o7777;
    assert_eq!((mode(&project.data().join("projects")), mode(&state)), (0o700, 0o700));
    assert_eq!(mode(&state.join("project.json")), 0o600);
    let record = std::fs::read_to_string(state.join("project.json")).expect("a record");
    let record: serde_json::Value = serde_json::from_str(&record).expect("JSON");
    assert_eq!((record["schema"].as_u64(), &record["root"]), (Some(1), &told["root"]));
    let after: Vec<_> = everything_below(project.path()).map(|entry| entry.path().to_owned()).collect();
    let new: Vec<_> = after.iter().filter(|path| !before.contains(path) && !path.ends_with("lian.lock")).collect();
    assert_eq!(new, Vec::<&std::path::PathBuf>::new());
    let shown = project.lian(&["where"]).exits(0).stdout;
    assert!(shown.contains(&format!("state   {}\n", state.display())), "{shown}");
    // The same project from one of its folders; another one is another.
    command = project.command(&["runs", "--format", "json"]);
    assert_eq!(runs(&command.current_dir(project.path().join("catalog/base")).output().expect("it starts").into()), 1);
}

#[test]
fn the_state_of_before_is_taken_over_once() {
    let project = of_before();
    let taken = project.lian(&["plan", "--detailed-exitcode"]).exits(0);
    assert!(taken.stderr.contains("the project's state was moved from"), "{}", taken.both());
    assert!(!project.path().join(".lian").exists(), "it is still there");
    for entry in everything_below(&project.state()) {
        assert_eq!(entry.metadata().expect("readable").mode() & 0o077, 0, "{}", entry.path().display());
    }
    assert_eq!(runs(&project.lian(&["runs", "--format", "json"]).exits(0)), 1);
    let again = project.lian(&["apply", "--format", "json"]).exits(0);
    assert_eq!((again.outcomes(), again.stderr.as_str()), (vec!["base=reused".to_owned()], ""));
    // A second one comes too late; nothing of it is used, and it stays.
    project.write(".lian/lian.db", "no database");
    let late = project.lian(&["runs", "--format", "json"]).exits(0);
    assert!(late.stderr.contains(".lian is ignored: the project's state is in"), "{}", late.both());
    assert_eq!(runs(&late), 2);
    assert_eq!(std::fs::read_to_string(project.path().join(".lian/lian.db")).expect("it stays"), "no database");
}

#[test]
fn the_state_of_before_comes_from_another_disk_too_and_what_is_not_ours_stays() {
    let project = of_before();
    project.write(".lian/mine/note", "mine");
    let other_disk = tempfile::Builder::new().prefix("lian-user-").tempdir_in("/dev/shm").expect("another disk");
    let device = |path: &Path| std::fs::metadata(path).expect("there").dev();
    assert_ne!(device(other_disk.path()), device(project.path()), "the test needs two disks");
    let with = |arguments: &[&str]| -> Ran {
        project.command(arguments).env("LIAN_DATA_DIR", other_disk.path()).output().expect("it starts").into()
    };
    // What another key marked is not used again: an archive brings such a folder, too.
    let planned = with(&["plan"]).exits(0);
    assert!(planned.stdout.contains("its record was not written by you"), "{}", planned.both());
    let again = with(&["apply", "--format", "json"]).exits(0);
    assert_eq!(again.outcomes(), ["base=built"]);
    assert_eq!(with(&["apply", "--format", "json"]).exits(0).outcomes(), ["base=reused"]);
    assert_eq!(runs(&with(&["runs", "--format", "json"]).exits(0)), 3);
    let left: Vec<_> = std::fs::read_dir(project.path().join(".lian")).expect("it stays").flatten().collect();
    assert_eq!(left.iter().map(std::fs::DirEntry::file_name).collect::<Vec<_>>(), ["mine"]);
}

#[test]
fn a_state_that_may_be_a_strangers_is_ignored_and_said() {
    let ignored = |project: &Project, why: &str| {
        let before: Vec<_> =
            everything_below(&project.path().join(".lian")).map(|entry| entry.path().to_owned()).collect();
        for command in ["check", "plan", "runs", "leases", "gc"] {
            let ran = project.lian(&[command]).exits(0);
            assert_eq!(ran.stderr.matches(".lian is ignored").count(), 1, "{command}: {}", ran.both());
            assert!(ran.stderr.contains(why), "{command} lacks `{why}`: {}", ran.both());
        }
        assert_eq!(runs(&project.lian(&["runs", "--format", "json"]).exits(0)), 0);
        assert_eq!(project.lian(&["apply", "--format", "json"]).exits(0).outcomes(), ["base=built"]);
        let after: Vec<_> =
            everything_below(&project.path().join(".lian")).map(|entry| entry.path().to_owned()).collect();
        assert_eq!(after, before);
    };
    let tracked = of_before();
    std::fs::remove_dir(tracked.path().join(".git")).expect("empty");
    git(tracked.path(), &["init", "--quiet"]);
    git(tracked.path(), &["add", "-f", ".lian/images/index.json"]);
    ignored(&tracked, "git tracks it, so a clone brings it");

    let linked = of_before();
    let logs = linked.path().join(".lian/logs");
    std::fs::remove_dir_all(&logs).expect("logs");
    symlink("/etc", &logs).expect("writable");
    ignored(&linked, ".lian/logs is a symbolic link");

    let others = of_before();
    std::os::unix::fs::chown(others.path().join(".lian/images/index.json"), Some(12345), None).expect("root");
    ignored(&others, ".lian/images/index.json is another user's");

    let link = one_layer();
    symlink("/etc", link.path().join(".lian")).expect("writable");
    let ran = link.lian(&["plan"]).exits(0);
    assert!(ran.stderr.contains(".lian is ignored: .lian is a symbolic link"), "{}", ran.both());
}

#[test]
fn a_state_that_git_tracks_is_refused_whoever_names_it() {
    let project = of_before();
    std::fs::remove_dir(project.path().join(".git")).expect("empty");
    git(project.path(), &["init", "--quiet"]);
    project.lian(&["runs", "--state", ".lian"]).exits(0);
    git(project.path(), &["add", "-f", ".lian"]);
    symlink(project.path().join(".lian"), project.path().join("link")).expect("writable");
    symlink("/nowhere", project.path().join("committed")).expect("writable");
    git(project.path(), &["add", "committed"]);
    for state in [".lian", ".lian/deeper/../", "link", "committed/below"] {
        for command in ["runs", "plan", "apply", "gc", "leases", "where"] {
            let ran = project.lian(&[command, "--state", state]).exits(64);
            assert!(ran.stderr.contains("lian::state::tracked"), "{command} {state}: {}", ran.both());
        }
        let ran: Ran = project.command(&["runs"]).env("LIAN_STATE", state).output().expect("it starts").into();
        assert!(ran.exits(64).stderr.contains("lian::state::tracked"));
    }
}

#[test]
fn another_folder_is_taken_if_it_is_empty_ours_and_this_projects() {
    let (project, other) = (one_layer(), one_layer());
    let mine = tempfile::tempdir().expect("a folder");
    let state = mine.path().join("state");
    let named = |project: &Project, command: &str| -> Ran {
        project.lian(&[command, "--state", &state.display().to_string(), "--format", "json"])
    };
    named(&project, "apply").exits(0);
    assert_eq!(runs(&named(&project, "runs").exits(0)), 1);
    assert!(!project.state().exists(), "the usual folder was made");
    let refused = named(&other, "plan").exits(64);
    assert_eq!(text(&refused.json()["diagnostics"][0]["code"]), "lian::state::other_project", "{}", refused.both());
    // What is somebody's own stays as it is, with its mode.
    let own = mine.path().join("own");
    std::fs::create_dir(&own).expect("writable");
    std::fs::write(own.join("note"), "mine").expect("writable");
    let mode = std::fs::metadata(&own).expect("there").mode();
    let ran = other.lian(&["apply", "--state", &own.display().to_string()]).exits(64);
    assert!(ran.stderr.contains("lian::state::not_state"), "{}", ran.both());
    assert_eq!(std::fs::metadata(&own).expect("there").mode(), mode);
    // A project that was moved goes on with the state that its user names.
    let moved = mine.path().join("moved");
    std::fs::rename(project.path(), &moved).expect("same disk");
    let mut command = project.command(&["apply", "--format", "json"]);
    let ran = Ran::from(command.env("LIAN_STATE", &state).current_dir(&moved).output().expect("it starts"));
    std::fs::rename(&moved, project.path()).expect("same disk");
    let ran = ran.exits(0);
    assert_eq!(ran.outcomes(), ["base=reused"]);
    assert!(ran.stderr.contains("is now that of"), "{}", ran.both());
}

#[test]
fn the_state_of_projects_that_are_gone_is_told_and_removed_on_demand() {
    let (project, gone) = (one_layer(), one_layer());
    let apply = |other: &Project| -> Ran {
        other.command(&["apply"]).env("LIAN_DATA_DIR", project.data()).output().expect("it starts").into()
    };
    apply(&gone).exits(0);
    let root = std::fs::canonicalize(gone.path()).expect("a folder");
    let told = || project.lian(&["where", "--format", "json"]).exits(0).json()["gone"].clone();
    assert_eq!(told(), serde_json::json!([]));
    project.lian(&["gc", "--gone"]).exits(0);
    drop(gone);
    let state = text(&told()[0]["state"]).to_owned();
    assert_eq!(text(&told()[0]["root"]), root.display().to_string());
    assert!(project.lian(&["where"]).exits(0).both().contains("lian-build gc --gone"));
    // What has runners to be given back is kept, and what has no record of ours.
    let ledger = rusqlite::Connection::open(Path::new(&state).join("lian.db")).expect("a ledger");
    let lease = "insert into leases values ('r-1', 'r', '{}', null, 'held', 1, 1)";
    ledger.execute_batch(lease).expect("written");
    drop(ledger);
    std::fs::create_dir(project.data().join("projects/mine")).expect("writable");
    let kept = project.lian(&["gc", "--gone"]).exits(0).stdout;
    assert!(kept.contains("1 runner of") && kept.contains("lian-build leases gc --state"), "{kept}");
    let ledger = rusqlite::Connection::open(Path::new(&state).join("lian.db")).expect("a ledger");
    ledger.execute_batch("delete from leases").expect("written");
    drop(ledger);
    project.lian(&["gc"]).exits(0);
    assert!(Path::new(&state).exists(), "it went without being asked");
    let removed = project.lian(&["gc", "--gone", "--format", "json"]).exits(0).json();
    assert_eq!(
        (text(&removed["gone"][0]["state"]), removed["gone"][0]["removed"].as_bool()),
        (state.as_str(), Some(true))
    );
    assert!(!Path::new(&state).exists() && project.data().join("projects/mine").exists());
}

#[test]
fn whoever_has_no_place_for_a_state_is_told_what_to_do() {
    let project = one_layer();
    let with = |variables: &[(&str, &str)]| -> Ran {
        let mut command = project.command(&["plan"]);
        command.env_remove("LIAN_DATA_DIR").env_remove("XDG_DATA_HOME").envs(variables.iter().copied());
        command.output().expect("it starts").into()
    };
    let told = |ran: Ran, code: i32, wanted: &str| {
        let ran = ran.exits(code);
        assert!(ran.stderr.contains(wanted) && ran.stderr.contains("help:"), "{}", ran.both());
    };
    told(with(&[("HOME", "/root"), ("XDG_DATA_HOME", "data")]), 64, "lian::state::relative_data_home");
    let data = tempfile::tempdir().expect("a folder");
    let theirs = data.path().join("theirs");
    let at_theirs = Project::with_base();
    at_theirs.layer("base", BASE, "FROM base.example/busybox:1\nRUN true\n");
    std::fs::create_dir(&theirs).expect("writable");
    std::os::unix::fs::chown(&theirs, Some(12345), None).expect("root");
    let named = theirs.display().to_string();
    let ran = at_theirs.lian(&["apply", "--state", &named]);
    assert!(ran.stderr.contains("belongs to user 12345, not to you"), "{}", ran.both());
    told(ran, 4, "lian::state::unusable");
    std::fs::write(data.path().join("file"), "").expect("writable");
    let file = data.path().join("file").display().to_string();
    told(at_theirs.lian(&["apply", "--state", &file]), 4, "lian::state::unusable");
    let mut command = at_theirs.command(&["apply"]);
    told(command.env("LIAN_DATA_DIR", &file).output().expect("it starts").into(), 4, "lian::state::unusable");
}
