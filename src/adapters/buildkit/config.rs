//! The configuration of our own daemon: where its files are, how much it may keep, when it stops. Not responsible for:
//! starting it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::BuildkitError;
use super::network::Network;
use crate::domain::base::Digest;
use crate::system::data_folder;

/// The longest path of a socket in bytes, including the terminating zero.
const SOCKET_PATH_BYTES: usize = 100;

/// How a daemon is reached or started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonConfig {
    /// The address of a daemon that already runs. If there is none, we run our own.
    pub address: Option<String>,
    /// The folder of our own daemon: root, log, locks.
    pub folder: PathBuf,
    /// The daemon's state, if it must lie outside that folder (tests use a tmpfs).
    pub root: Option<PathBuf>,
    /// The most that its cache may keep, in bytes.
    pub keep_bytes: u64,
    /// The most steps that may run at the same time; 0 means no limit.
    pub parallelism: usize,
    /// The daemon stops after nobody has used it for this long.
    pub idle: Duration,
    /// The program that supervises the daemon: `lian-build` itself, by its hidden command `__buildkitd`.
    pub supervisor: PathBuf,
    /// Registries (`host:port`) that are reached over plain HTTP.
    pub http_registries: Vec<String>,
    /// Whether builds let their steps use this machine's network: what the user says, if anything.
    pub host_network: Option<bool>,
}

impl DaemonConfig {
    /// The defaults: 20 GB of cache, ten minutes until an idle daemon stops.
    pub const KEEP_BYTES: u64 = 20_000_000_000;

    /// Our own daemon in this data folder.
    pub fn in_folder(data: &Path, supervisor: PathBuf) -> Self {
        Self {
            address: None,
            folder: data.join("buildkit"),
            root: None,
            keep_bytes: Self::KEEP_BYTES,
            parallelism: 0,
            idle: Duration::from_secs(600),
            supervisor,
            http_registries: Vec::new(),
            host_network: None,
        }
    }

    /// Reads `BUILDKIT_HOST`, `LIAN_DATA_DIR`, `LIAN_DAEMON_IDLE` and `LIAN_NETWORK`. The supervisor is this program.
    ///
    /// # Errors
    /// [`BuildkitError::Idle`] if `LIAN_DAEMON_IDLE` is not a duration; [`BuildkitError::Network`] if `LIAN_NETWORK` is no
    /// network; [`BuildkitError::DataFolder`].
    pub fn from_env() -> Result<Self, BuildkitError> {
        // We do not use its path: by now the file there may be another one, or missing.
        let mut config = Self::in_folder(&data_folder()?, "/proc/self/exe".into());
        config.address = std::env::var("BUILDKIT_HOST").ok().filter(|address| !address.is_empty());
        if let Ok(value) = std::env::var("LIAN_DAEMON_IDLE") {
            config.idle = parse_time(&value).ok_or(BuildkitError::Idle { value })?;
        }
        config.host_network = match std::env::var("LIAN_NETWORK").unwrap_or_default().as_str() {
            "" => None,
            "own" => Some(false),
            "host" => Some(true),
            value => return Err(BuildkitError::Network { value: value.to_owned() }),
        };
        Ok(config)
    }

    /// The socket of our own daemon.
    pub fn socket(&self) -> PathBuf {
        let inside = self.folder.join("buildkitd.sock");
        if inside.as_os_str().len() <= SOCKET_PATH_BYTES {
            return inside;
        }
        let uid = rustix::process::geteuid().as_raw();
        let name = Digest::of(self.folder.as_os_str().as_encoded_bytes());
        std::env::temp_dir().join(format!("lian-build-{uid}")).join(format!("{}.sock", name.short()))
    }

    /// Our own daemon's log.
    pub fn log(&self) -> PathBuf {
        self.folder.join("buildkitd.log")
    }

    /// Our own daemon's state.
    pub fn root(&self) -> PathBuf {
        self.root.clone().unwrap_or_else(|| self.folder.join("root"))
    }

    pub(super) fn toml_path(&self) -> PathBuf {
        self.folder.join("buildkitd.toml")
    }

    /// The lock that every run holds (shared) while it uses the daemon, and that the supervisor holds alone while it
    /// stops the daemon.
    pub(super) fn users_lock(&self) -> PathBuf {
        self.folder.join("users.lock")
    }

    /// The lock of the process that starts the daemon.
    pub(super) fn start_lock(&self) -> PathBuf {
        self.folder.join("start.lock")
    }

    /// The lock that the supervisor holds as long as it runs; the file holds its pid.
    pub(super) fn supervisor_lock(&self) -> PathBuf {
        self.folder.join("supervisor.lock")
    }

    /// The text of `buildkitd.toml`. Only we may use the socket, because whoever can build can become root. A build that
    /// asks for this machine's network gets it: only the user lets it ask.
    pub(super) fn toml(&self, network: &Network) -> String {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let path = |path: &Path| quoted(&path.display().to_string());
        let keep = self.keep_bytes;
        let mut text = format!(
            "# Written by lian-build at each start of the daemon: changes are lost.\n\
             root = {}\ninsecure-entitlements = [\"network.host\"]\n\n[grpc]\naddress = [{}]\n\n\
             [history]\nmaxAge = 172800\nmaxEntries = 50\n\n\
             [worker.containerd]\nenabled = false\n\n\
             [worker.oci]\nenabled = true\ngc = true\nreservedSpace = {}\nmaxUsedSpace = {keep}\nminFreeSpace = \"5%\"\n",
            path(&self.root()),
            quoted(&format!("unix://{}", self.socket().display())),
            keep / 10,
        );
        text.push_str(&network.toml(&self.folder));
        if self.parallelism > 0 {
            let _ = writeln!(text, "max-parallelism = {}", self.parallelism);
        }
        for host in &self.http_registries {
            let _ = writeln!(text, "\n[registry.{}]\nhttp = true", quoted(host));
        }
        text
    }
}

/// Reads `600`, `90s`, `10m` or `1h`.
pub(super) fn parse_time(text: &str) -> Option<Duration> {
    let text = text.trim();
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(number) => (
            number,
            match text.as_bytes().last() {
                Some(b'm') => 60,
                Some(b'h') => 3600,
                _ => 1,
            },
        ),
        None => (text, 1),
    };
    Some(Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(unit)?))
}

#[cfg(test)]
mod tests {
    use super::super::network::Shared;
    use super::*;

    #[test]
    fn reads_times_as_people_write_them() {
        let seconds = |text| parse_time(text).map(|time| time.as_secs());
        assert_eq!([seconds("600"), seconds("90s"), seconds("10m"), seconds("1h")], [600, 90, 600, 3600].map(Some));
        assert_eq!([seconds(""), seconds("m"), seconds("-1"), seconds("1.5h"), seconds("1d")], [None; 5]);
    }

    #[test]
    fn the_daemon_is_told_its_bounds() {
        let mut config = DaemonConfig::in_folder(Path::new("/data"), "/bin/lian-build".into());
        config.parallelism = 3;
        config.http_registries = vec!["10.0.0.1:5000".into()];
        let shared = Network::Shared(Shared { why: String::new(), mend: String::new() });
        insta::assert_snapshot!(config.toml(&shared));
    }

    #[test]
    fn a_long_folder_gets_a_short_socket() {
        let long = Path::new("/").join("x".repeat(120));
        let config = DaemonConfig::in_folder(&long, PathBuf::new());
        assert!(config.socket().as_os_str().len() <= SOCKET_PATH_BYTES, "{:?}", config.socket());
    }
}
