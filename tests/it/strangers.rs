//! A repository that a stranger wrote, and what the commands do in it: nothing outside changes, and nobody is asked.

mod catalog;
mod images;
mod network;
mod peers;
mod print;
mod reads;
mod serve;
mod state;
mod trust;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

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

/// An HTTP server that answers as it likes, and what it was asked. Each connection brings one request.
struct Peer {
    address: String,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    fn new(answer: impl Fn(&str, TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (heard, answer) = (Arc::new(Mutex::new(Vec::new())), Arc::new(answer));
        let all = Arc::clone(&heard);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, all, answer) = (stream.expect("a connection"), Arc::clone(&all), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let (mut request, mut part) = (Vec::new(), [0; 4096]);
                    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                        match stream.read(&mut part) {
                            Ok(count @ 1..) => request.extend_from_slice(&part[..count]),
                            Ok(0) | Err(_) => return,
                        }
                    }
                    let request = String::from_utf8_lossy(&request).into_owned();
                    all.lock().expect("whole").push(request.clone());
                    answer(&request, stream);
                });
            }
        });
        Self { address, heard }
    }

    /// What it was asked so far, heads of requests.
    fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("whole").clone()
    }
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
