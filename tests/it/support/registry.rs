//! A real registry (Debian's `docker-registry`) on a port of its own, its files in a folder of its own. It ends with the
//! value, and with the thread that started it, however that ends. Not responsible for: being shared between tests.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The user of a registry that requires a login, and the password.
pub const LOGIN: (&str, &str) = ("me", "right");
/// The password as the registry's own file has it (bcrypt).
const HASH: &str = "$2y$05$abcdefghijklmnopqrstuu8xaCxxL82bnl.UY74PMksDxIJShppPC";

/// A registry that runs.
pub struct Registry {
    child: Child,
    folder: super::buildkitd::Scratch,
    port: u16,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    /// One that takes whoever comes, on the loopback.
    pub fn start() -> Self {
        Self::listening("127.0.0.1", "")
    }

    /// One that wants [`LOGIN`].
    pub fn with_login() -> Self {
        Self::listening("127.0.0.1", "auth: {htpasswd: {realm: test, path: htpasswd}}\n")
    }

    /// One that listens on every address of this machine.
    pub fn everywhere() -> Self {
        Self::listening("0.0.0.0", "")
    }

    /// The same, wanting [`LOGIN`].
    pub fn everywhere_with_login() -> Self {
        Self::listening("0.0.0.0", "auth: {htpasswd: {realm: test, path: htpasswd}}\n")
    }

    fn listening(host: &str, more: &str) -> Self {
        let folder = super::buildkitd::scratch();
        let path = |name: &str| folder.path().join(name);
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"{host}:0\"}}\n{more}",
            path("data").display()
        );
        std::fs::write(path("config.yml"), config).expect("a file");
        std::fs::write(path("htpasswd"), format!("{}:{HASH}\n", LOGIN.0)).expect("a file");
        let log = std::fs::File::create(path("log")).expect("a file");
        let mut command = Command::new(program());
        command.args(["serve", "config.yml"]).current_dir(folder.path()).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a handle")).stderr(log);
        #[cfg(target_os = "linux")]
        // SAFETY: between fork and exec only this one system call is made; it allocates nothing and takes no lock.
        unsafe {
            command.pre_exec(|| {
                rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
                Ok(())
            });
        }
        let child = command.spawn().expect("the registry starts");
        let mut registry = Self { child, folder, port: 0 };
        registry.port = registry.wait_for_port();
        registry
    }

    /// It says where it listens once it does.
    fn wait_for_port(&mut self) -> u16 {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            let said = log.split("listening on ").nth(1).and_then(|rest| rest.split('"').next());
            if let Some(port) = said.and_then(|place| place.trim().rsplit(':').next()?.parse().ok()) {
                return port;
            }
            assert!(self.child.try_wait().expect("a status").is_none(), "the registry ended:\n{log}");
            assert!(Instant::now() < deadline, "the registry does not listen:\n{log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Where it is on the loopback.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The tags of a repository, sorted.
    pub fn tags(&self, repository: &str) -> Vec<String> {
        let Ok(list) = std::fs::read_dir(self.repository(repository).join("_manifests/tags")) else {
            return Vec::new();
        };
        let mut tags: Vec<String> =
            list.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        tags.sort();
        tags
    }

    /// The digest that a tag points to.
    #[track_caller]
    pub fn digest(&self, repository: &str, tag: &str) -> String {
        let link = self.repository(repository).join("_manifests/tags").join(tag).join("current/link");
        std::fs::read_to_string(&link).unwrap_or_else(|error| panic!("{repository}:{tag}: {error}"))
    }

    /// The file of a blob.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        self.folder.path().join("data/docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }

    /// What it has been asked, and how it answered.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).expect("a log")
    }

    fn repository(&self, name: &str) -> PathBuf {
        self.folder.path().join("data/docker/registry/v2/repositories").join(name)
    }
}

/// The registry's program, unpacked where it is missing.
fn program() -> PathBuf {
    let find = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let tools = cache.or_else(home).map(|cache| cache.join("lian-build/tools/bin"));
        let folders = std::env::split_paths(&path).chain(tools);
        folders.map(|folder| folder.join("docker-registry")).find(|program| program.is_file())
    };
    find().unwrap_or_else(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/setup.sh");
        let installed = Command::new(&script).arg("--test").status().expect("scripts/setup.sh runs");
        assert!(installed.success(), "scripts/setup.sh --test failed: {installed}");
        find().expect("docker-registry")
    })
}
