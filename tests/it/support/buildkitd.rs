//! One real buildkitd for all tests of this binary, its state on tmpfs, and a base image of Debian's static busybox.
//! It ends within a second of this process, however that ends: its supervisor waits for our share of a lock.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use lian_build::adapters::buildkit::{Binaries, Buildctl, Daemon, DaemonConfig};
use lian_build::domain::base::Digest;
use lian_build::domain::ports::{BuildRequest, Definition, ImageSource, NamedContext};

/// What the tests build with.
pub struct Stage {
    pub daemon: Daemon,
    /// An image in an OCI layout: busybox in `/bin`, `PATH=/bin`. The layout has the same for some other platforms.
    pub base: ImageSource,
}

const APPLETS: [&str; 19] = [
    "sh", "ls", "cat", "echo", "sleep", "head", "tr", "mkdir", "true", "false", "id", "rm", "cp", "ln", "chmod",
    "touch", "dd", "kill", "grep",
];

/// The architectures of the base image's platforms: this machine's first.
const PLATFORMS: [&str; 3] =
    if cfg!(target_arch = "aarch64") { ["arm64", "amd64", "386"] } else { ["amd64", "arm64", "386"] };

/// The shared daemon, started by the first test that asks.
pub fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(|| {
        let folder = folder("shared");
        let base = make_base(&folder.join("base"));
        // A thread of its own: the caller may be inside a runtime.
        let daemon = std::thread::spawn(move || start(&config(&folder))).join().expect("a daemon");
        Stage { daemon, base }
    })
}

/// Where the shared daemon keeps what it was sent and what it built.
pub fn daemon_root() -> PathBuf {
    folder("shared")
}

impl Stage {
    /// A builder on the shared daemon.
    pub fn builder(&self) -> Buildctl {
        Buildctl::on(&self.daemon)
    }

    /// A request to build `dockerfile` over the base image, which it names `base`.
    pub fn request(&self, folder: &Path, dockerfile: &str) -> BuildRequest {
        let (context, staging) = (folder.join("context"), folder.join("staging"));
        std::fs::create_dir_all(&context).expect("a folder");
        let _ = std::fs::remove_dir_all(&staging);
        std::fs::create_dir_all(&staging).expect("a folder");
        std::fs::write(context.join("Dockerfile"), dockerfile).expect("a file");
        BuildRequest {
            dockerfile: context.join("Dockerfile"),
            definition: Definition { dockerfile: dockerfile.into(), ignore: None },
            context,
            folder_modes: None,
            target: None,
            build_args: [].into(),
            platforms: self.daemon.platform().clone().into(),
            labels: [].into(),
            secrets: Vec::new(),
            ssh: Vec::new(),
            named_contexts: vec![NamedContext { name: "base".to_owned(), source: self.base.clone() }],
            stand_ins: Vec::new(),
            frontend: None,
            staging,
            push: None,
            caches: lian_build::domain::ports::SharedCaches::default(),
        }
    }
}

/// A folder on tmpfs, on the same file system as the shared daemon's.
pub fn scratch() -> Scratch {
    Scratch(tempfile::tempdir_in(folder("scratch")).expect("a folder"))
}

/// A folder that goes after the daemon that was started in it: a daemon needs its files to give its network back.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let Ok(lock) = std::fs::File::open(self.path().join("buildkit/supervisor.lock")) else { return };
        let began = Instant::now();
        while lock.try_lock_shared().is_err() && began.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A configuration of a daemon of its own in this folder.
pub fn config(folder: &Path) -> DaemonConfig {
    let mut config = DaemonConfig::in_folder(folder, env!("CARGO_BIN_EXE_lian-build").into());
    config.idle = Duration::from_millis(700);
    config
}

/// BuildKit's programs, installed where they are missing.
pub fn binaries() -> Binaries {
    static FOUND: OnceLock<Binaries> = OnceLock::new();
    let find = || {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let given = std::env::var_os("LIAN_BUILDKIT_BIN").filter(|folder| !folder.is_empty()).map(PathBuf::from);
        let folder = given.unwrap_or_else(|| {
            let script = root.join("scripts/setup.sh");
            let installed = Command::new(&script).status().expect("scripts/setup.sh runs");
            assert!(installed.success(), "scripts/setup.sh failed: {installed}");
            let output = Command::new(&script).arg("--bin").output().expect("scripts/setup.sh runs");
            PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
        });
        Binaries::find_in(Some(&folder), None, None).expect("buildctl and buildkitd")
    };
    FOUND.get_or_init(find).clone()
}

/// Another daemon, with an empty cache, whose state is in this folder.
pub fn another(folder: &Path) -> Daemon {
    let config = config(folder);
    std::thread::spawn(move || start(&config)).join().expect("a daemon")
}

fn start(config: &DaemonConfig) -> Daemon {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(Daemon::ensure_with(config, binaries())).unwrap_or_else(|error| panic!("{error}"))
}

/// A folder of this process on tmpfs; those of dead processes go.
fn folder(name: &str) -> PathBuf {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    let root = ROOT.get_or_init(|| {
        let shm = Path::new("/dev/shm");
        let parent = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
        for entry in std::fs::read_dir(&parent).expect("a folder").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let pid = name.strip_prefix("lian-build-it-");
            if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                remove_with_mounts(&entry.path());
            }
        }
        parent.join(format!("lian-build-it-{}", std::process::id()))
    });
    let folder = root.join(name);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Removes a folder and what is mounted below it: a buildkitd that was killed leaves its steps' file systems mounted.
fn remove_with_mounts(folder: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for place in mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|at| Path::new(at).starts_with(folder))
    {
        let _ = Command::new("umount").args(["-l", place]).status();
    }
    let _ = std::fs::remove_dir_all(folder);
}

pub fn busybox() -> PathBuf {
    let find = || ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from).into_iter().find(|path| path.is_file());
    find().unwrap_or_else(|| {
        let mut install = Command::new("apt-get");
        let installed = install.args(["install", "-y", "-q", "busybox-static"]).stdout(Stdio::null()).status();
        assert!(installed.is_ok_and(|status| status.success()), "`apt-get install busybox-static` failed");
        find().expect("busybox")
    })
}

fn make_base(layout: &Path) -> ImageSource {
    let (rootfs, blobs) = (layout.join("rootfs"), layout.join("blobs/sha256"));
    let bin = rootfs.join("bin");
    std::fs::create_dir_all(&bin).expect("a folder");
    std::fs::create_dir_all(&blobs).expect("a folder");
    std::fs::copy(busybox(), bin.join("busybox")).expect("a copy");
    for applet in APPLETS {
        symlink("busybox", bin.join(applet)).expect("a link");
    }
    let tar = Command::new("tar").arg("-C").arg(&rootfs).args(["--owner=0", "--group=0", "-cf", "-", "."]).output();
    let layer = tar.expect("tar runs").stdout;
    let put = |bytes: &[u8], media_type: &str| {
        let digest = Digest::of(bytes);
        std::fs::write(blobs.join(digest.hex()), bytes).expect("a blob");
        serde_json::json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    };
    let diff = Digest::of(&layer);
    let layer = put(&layer, "application/vnd.oci.image.layer.v1.tar");
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    // The same busybox for each: a test may build for a platform without running anything of it.
    let images = PLATFORMS.map(|architecture| {
        let config = serde_json::json!({
            "architecture": architecture, "os": "linux", "config": {"Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [diff]},
        });
        let config = put(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
        let manifest =
            serde_json::json!({"schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": [layer]});
        let mut image = put(manifest.to_string().as_bytes(), manifest_type);
        image["platform"] = serde_json::json!({"os": "linux", "architecture": architecture});
        image
    });
    let manifest = &images[0];
    let index = serde_json::json!({"schemaVersion": 2, "manifests": images});
    std::fs::write(layout.join("index.json"), index.to_string()).expect("a file");
    std::fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("a file");
    let digest = manifest["digest"].as_str().expect("a digest").parse().expect("a digest");
    ImageSource::Layout { dir: layout.to_owned(), digest }
}
