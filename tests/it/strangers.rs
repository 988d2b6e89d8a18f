//! A repository that a stranger wrote, and what the commands do in it: nothing outside changes, and nobody is asked.

mod images;
mod print;
mod reads;
mod serve;
mod state;
mod trust;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::git::git;
use crate::support::project::Project;

/// A folder of the user's that must stay as it is: files, folders, modes, contents.
struct Canary {
    dir: tempfile::TempDir,
    before: BTreeMap<PathBuf, (u32, Vec<u8>)>,
}

impl Canary {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("lian-canary-").tempdir().expect("a folder");
        for name in ["file", "folder/file", "7/app.log", "7.lock", "blobs/sha256/file", "index.json", "42-0/half"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("below")).expect("writable");
            std::fs::write(path, name).expect("writable");
        }
        let before = contents(dir.path());
        Self { dir, before }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Asserts that nothing in it was changed, made or removed.
    #[track_caller]
    fn is_whole(&self, after: &str) {
        assert_eq!(contents(self.dir.path()), self.before, "changed by {after}");
    }
}

fn contents(folder: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    use std::os::unix::fs::MetadataExt as _;
    let entries = walkdir::WalkDir::new(folder).into_iter().map(|entry| entry.expect("readable"));
    let seen = |entry: walkdir::DirEntry| {
        let bytes = std::fs::read(entry.path()).unwrap_or_default();
        (entry.path().to_owned(), (entry.metadata().expect("readable").mode(), bytes))
    };
    entries.map(seen).collect()
}

/// Counts whoever connects.
struct Listener(TcpListener);

impl Listener {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("set");
        Self(listener)
    }

    fn address(&self) -> String {
        self.0.local_addr().expect("an address").to_string()
    }

    /// How many have connected since the last look.
    fn contacts(&self) -> usize {
        let mut count = 0;
        loop {
            match self.0.accept() {
                Ok(_) => count += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return count,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Runs a command on a terminal where somebody types this. Returns its exit code, and all that the terminal shows.
fn on_a_terminal(command: &Command, typed: &str) -> (Option<i32>, String) {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line = words.map(|word| format!("'{}'", word.to_string_lossy())).collect::<Vec<_>>().join(" ");
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm");
    script.current_dir(command.get_current_dir().expect("a project"));
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    let mut script =
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("script runs");
    script.stdin.take().expect("a pipe").write_all(typed.as_bytes()).expect("it reads");
    let output = script.wait_with_output().expect("it ends");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A clone of a project, with everything that is in its tree, as a user gets it.
fn cloned(origin: &Project) -> Project {
    std::fs::remove_dir(origin.path().join(".git")).expect("empty");
    git(origin.path(), &["init", "--quiet"]);
    git(origin.path(), &["add", "-f", "."]);
    git(origin.path(), &["commit", "--quiet", "-m", "planted"]);
    let clone = Project::with_base();
    std::fs::remove_dir(clone.path().join(".git")).expect("empty");
    let from = origin.path().display().to_string();
    git(clone.path(), &["clone", "--quiet", &from, "."]);
    clone
}
