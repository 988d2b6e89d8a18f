//! A real Docker Engine of the tests' own, with an image of BuildKit like the published one. It ends with this process, and
//! so does everything in it. Not responsible for: speaking to an engine that somebody else uses.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::buildkitd;
use super::sandbox::spawn;

/// What the default settings name.
pub const IMAGE: &str = "moby/buildkit:v0.32.2";

/// Old engines ask for every capability that there is; where this process lacks one, its containers do without.
const RUNTIME: &str = r#"#!/bin/sh
lacking=$(mktemp)
held=$(sed -n 's/^CapBnd:[[:space:]]*//p' /proc/self/status)
[ $((0x$held >> 24 & 1)) = 1 ] || echo 's/"CAP_SYS_RESOURCE",//g' >"$lacking"
previous=
for word in "$@"; do
  case $previous in
  --bundle | -b) sed -i -f "$lacking" "$word/config.json" ;;
  --process | -p) sed -i -f "$lacking" "$word" ;;
  esac
  previous=$word
done
rm -f "$lacking"
exec runc "$@"
"#;

/// What the image has beside BuildKit's programs and runc.
const APPLETS: [&str; 12] = ["sh", "cat", "sed", "stat", "sleep", "kill", "echo", "mkdir", "ls", "rm", "head", "tr"];

/// The engine. Whoever has it is alone with it.
pub struct Engine {
    folder: PathBuf,
}

/// The engine, once nobody else uses it. Asserts that it is as empty as it was.
pub fn engine() -> MutexGuard<'static, Engine> {
    static ENGINE: OnceLock<Mutex<Engine>> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| Mutex::new(Engine::start())).lock().unwrap_or_else(PoisonError::into_inner);
    for container in engine.docker(&["ps", "-aq"]).split_whitespace() {
        engine.docker(&["rm", "-f", "-v", container]);
    }
    engine
}

impl Engine {
    fn start() -> Self {
        // Its sockets' paths must be short.
        let folder = tempfile::Builder::new().prefix("lian-docker-").tempdir().expect("a folder").keep();
        sweep(&folder);
        let runtime = folder.join("runc");
        std::fs::write(&runtime, RUNTIME).expect("writable");
        sh(&format!("chmod 755 '{}'", runtime.display()));
        let at = |name: &str| folder.join(name).display().to_string();
        let mut command = Command::new("unshare");
        command.args(["-m", "-p", "-f", "--kill-child=KILL", "--mount-proc", "dockerd"]);
        command.args(["--data-root", &at("root"), "--exec-root", &at("exec"), "--pidfile", &at("pid")]);
        command.args(["--host", &format!("unix://{}", at("sock")), "--iptables=false", "--ip6tables=false"]);
        command.args(["--bridge=none", "--add-runtime", &format!("held={}", at("runc")), "--default-runtime=held"]);
        command.arg(format!("--cgroup-parent=/lian-docker-{}", std::process::id()));
        let log = std::fs::File::create(folder.join("log")).expect("writable");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log);
        command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
        std::mem::forget(spawn(command));
        let engine = Self { folder };
        let started = Instant::now();
        while !engine.command(&["version"]).output().expect("docker runs").status.success() {
            let log = || std::fs::read_to_string(engine.folder.join("log")).unwrap_or_default();
            assert!(started.elapsed() < Duration::from_secs(60), "no Docker Engine: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
        engine.import();
        engine
    }

    /// Its address, for `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.folder.join("sock").display())
    }

    /// Lets users of a group in, as an engine that a distribution installed does.
    pub fn admit(&self, group: u32) {
        let (folder, socket) = (self.folder.display(), self.folder.join("sock"));
        sh(&format!("chmod 711 '{folder}' && chgrp {group} '{0}' && chmod 660 '{0}'", socket.display()));
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(args).env("DOCKER_HOST", self.host()).stdin(Stdio::null());
        command
    }

    /// Runs `docker` to its end; what it printed.
    #[track_caller]
    pub fn docker(&self, args: &[&str]) -> String {
        let output = self.command(args).output().expect("docker runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        assert!(output.status.success(), "docker {args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Makes it hang, or go on: it takes connections and answers nothing.
    pub fn hang(&self, hang: bool) {
        let signal = if hang { "-STOP" } else { "-CONT" };
        let name = format!("dockerd --data-root {}", self.folder.join("root").display());
        let sent = Command::new("pkill").args([signal, "-f", &format!("^{name}")]).status().expect("pkill runs");
        assert!(sent.success(), "no engine to send {signal} to");
    }

    /// Asserts that there is neither a container nor a volume.
    #[track_caller]
    pub fn is_empty(&self) {
        let containers = self.docker(&["ps", "-a", "--format", "{{.Names}} {{.Status}}"]);
        assert_eq!((containers, self.docker(&["volume", "ls", "-q"])), (String::new(), String::new()));
    }

    fn import(&self) {
        let tree = self.folder.join("tree");
        let binaries = buildkitd::binaries();
        let programs = binaries.buildctl.parent().expect("a folder").display().to_string();
        let applets: Vec<String> = APPLETS.map(|applet| format!("ln -s busybox '{applet}'")).to_vec();
        sh(&format!(
            "set -e; mkdir -p '{0}'; cd '{0}'; mkdir -p bin usr/bin etc tmp root proc sys dev run; chmod 1777 tmp; \
             cp '{1}' bin/busybox; cp '{programs}/buildkitd' '{programs}/buildctl' usr/bin; \
             cp \"$(command -v runc || echo /usr/sbin/runc)\" usr/bin/buildkit-runc; \
             for library in $(ldd usr/bin/buildkit-runc 2>/dev/null | grep -o '/[^ ]*'); do cp -L --parents $library .; done; \
             cd bin; {2}",
            tree.display(),
            buildkitd::busybox().display(),
            applets.join("; ")
        ));
        sh(&format!(
            "tar -C '{}' --owner=0 --group=0 -c . | DOCKER_HOST='{}' docker import -c 'ENTRYPOINT [\"buildkitd\"]' \
             -c 'ENV PATH=/usr/bin:/bin' -c 'VOLUME /var/lib/buildkit' - {IMAGE}",
            tree.display(),
            self.host()
        ));
        std::fs::remove_dir_all(tree).expect("removable");
    }
}

/// Takes away what engines of dead test processes left.
fn sweep(own: &Path) {
    let folders = std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten().map(|entry| entry.path());
    for folder in folders.filter(|folder| folder != own) {
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // An engine that lives answers on its socket.
        let lives = || std::os::unix::net::UnixStream::connect(folder.join("sock")).is_ok();
        if name.starts_with("lian-docker-") && folder.join("log").exists() && !lives() {
            let _ = std::fs::remove_dir_all(&folder);
        }
    }
    sh("for d in /sys/fs/cgroup/*/lian-docker-* /sys/fs/cgroup/lian-docker-*; do [ ! -d $d ] || \
        [ -d /proc/${d##*-} ] || find $d -depth -type d -exec rmdir {} \\; 2>/dev/null || true; done");
}

#[track_caller]
fn sh(script: &str) {
    let output = Command::new("sh").args(["-c", script]).output().expect("sh runs");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}
