//! Tests of the container transport with a fake `docker` command that runs everything on this machine.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Mutex;

use super::ContainerExec;
use crate::adapters::docker_cli::DockerCli;
use crate::adapters::transport::Transport as _;
use crate::system::exec::Exec as _;

/// The fake container is this machine; the file `state` holds the engine's description of it.
const DOCKER: &str = r#"#!/bin/sh
state=$(cat "$0.state" 2>/dev/null)
case "$1 $2" in
"exec --interactive") shift 3; exec "$@" ;;
"cp -") exec tar --extract --directory "${3#*:}" ;;
"container inspect") [ -n "$state" ] || { echo "Error: No such container: c" >&2; exit 1; }
  case "$4" in *OOMKilled*) echo "$state" ;; *) echo "${state% *}" ;; esac ;;
"logs --tail") echo "its last words" ;;
*) echo "unknown: $*" >&2; exit 125 ;;
esac
"#;

struct Engine {
    folder: tempfile::TempDir,
    container: ContainerExec,
}

impl Engine {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("docker");
        // A shell writes it: a file open for writing here would be inherited by concurrently spawned children
        // (ETXTBSY).
        let script = format!("cat >'{0}' <<'END'\n{DOCKER}END\nchmod 755 '{0}'", program.display());
        assert!(std::process::Command::new("sh").args(["-c", &script]).status().expect("a shell").success());
        let container = ContainerExec::new(DockerCli::at(program), "c");
        Self { folder, container }
    }

    fn says(&self, state: &str) {
        std::fs::write(self.folder.path().join("docker.state"), state).expect("writable");
    }

    fn make(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir(&path).expect("a folder");
        path
    }
}

#[tokio::test]
async fn a_script_runs_in_the_container() {
    let engine = Engine::new();
    let output = engine.container.exec("cat; echo words >&2; exit 3", b"input").await.expect("it ends");
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (3, "input", "words\n"));
    assert_eq!(engine.container.daemon_address().await.as_deref(), Ok("docker-container://c"));
    let fault = engine.container.start_with_agent("true").await.err().expect("there is no agent");
    assert!(fault.help.expect("help").contains("'session"));
}

#[tokio::test]
async fn chosen_files_are_copied_with_modes_times_and_links() {
    let engine = Engine::new();
    let (from, to) = (engine.make("from"), engine.make("to"));
    for name in ["-rf", "#note", "a b", "left out"] {
        std::fs::write(from.join(name), name).expect("writable");
    }
    std::fs::create_dir(from.join("deep")).expect("a folder");
    std::fs::write(from.join("deep/left out"), "x").expect("writable");
    std::fs::write(from.join("deep/run"), vec![b'x'; 300_000]).expect("writable");
    std::fs::set_permissions(from.join("deep/run"), std::fs::Permissions::from_mode(0o775)).expect("writable");
    std::os::unix::fs::symlink("a b", from.join("link")).expect("a link");
    let files = ["-rf", "#note", "a b", "deep", "deep/run", "link"].map(OsString::from);
    let sent = Mutex::new(Vec::new());
    let told = |bytes| sent.lock().expect("whole").push(bytes);
    engine.container.copy_in(&from, &files, &to.display().to_string(), &told).await.expect("copied");
    let there = |name: &str| to.join(name);
    assert_eq!(std::fs::read_to_string(there("-rf")).expect("it is there"), "-rf");
    assert_eq!(std::fs::read_to_string(there("link")).expect("it leads there"), "a b");
    assert!(there("#note").exists() && !there("left out").exists() && !there("deep/left out").exists());
    let (mine, theirs) = (from.join("deep/run").metadata(), there("deep/run").metadata());
    let (mine, theirs) = (mine.expect("it is there"), theirs.expect("it is there"));
    assert_eq!((theirs.len(), theirs.permissions().mode() & 0o7777), (300_000, 0o755), "modes are git's");
    let seconds = |metadata: &std::fs::Metadata| {
        let since = metadata.modified().expect("a time").duration_since(std::time::UNIX_EPOCH);
        since.expect("after 1970").as_secs()
    };
    assert_eq!(seconds(&theirs), seconds(&mine));
    let sent = sent.into_inner().expect("whole");
    assert!(sent.is_sorted() && sent.last().is_some_and(|bytes| *bytes > 300_000), "{sent:?}");
}

#[tokio::test]
async fn a_copy_that_fails_says_what_the_side_that_failed_said() {
    let engine = Engine::new();
    let (from, to) = (engine.make("from"), engine.make("to"));
    std::fs::write(from.join("large"), vec![b'x'; 1 << 20]).expect("writable");
    let copy = async |file: &str, to: PathBuf| {
        let to = to.display().to_string();
        let fault = engine.container.copy_in(&from, &[file.into()], &to, &|_| {}).await.expect_err("it cannot");
        (fault.code.clone(), fault.evidence.unwrap_or_default())
    };
    for (file, to, told) in [("large", to.join("nowhere"), "nowhere"), ("absent", to, "absent")] {
        let (code, evidence) = copy(file, to).await;
        assert!(code == "lian::docker::copy" && evidence.contains(told), "{code} {evidence}");
    }
}

#[tokio::test]
async fn a_container_that_ended_is_told_with_its_log_and_one_without_memory_as_such() {
    let engine = Engine::new();
    let gone = engine.container.check().await.expect_err("there is none");
    assert_eq!(gone.code, "lian::docker::failed");
    assert!(!engine.container.died_of_memory().await);
    engine.says("true false");
    assert_eq!(engine.container.check().await, Ok(()));
    engine.says("false false");
    let ended = engine.container.check().await.expect_err("it ended");
    assert_eq!((ended.code.as_str(), &ended.log_tail[..]), ("lian::docker::ended", &["its last words".to_owned()][..]));
    assert!(!engine.container.died_of_memory().await);
    engine.says("false true");
    assert!(engine.container.died_of_memory().await);
}
