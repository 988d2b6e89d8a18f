//! Where layers are built and what bounds it (`schemas/runners.ncl`). Not responsible for: tokens: they come from the environment or a
//! file, never from Nickel.

use crate::domain::base::Platform;
use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where layers are built.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ComputeProvider {
    /// A BuildKit daemon on this machine.
    #[default]
    Local,
    /// Containers on this machine's Docker Engine.
    DockerLocal,
    /// A fixed list of hosts.
    Ssh,
    /// Hetzner Cloud.
    Hcloud,
    /// Virtual machines of a Proxmox VE cluster.
    Proxmox,
    /// A service that leases runners (`lian-build serve`).
    VmPool,
}

/// How a context reaches a runner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContextTransfer {
    /// By rsync to `/workspace/` of the runner, where buildctl runs; images go from there to a registry.
    #[default]
    Rsync,
    /// buildctl runs here, over a forwarded socket: context, secrets and registry credentials stay here.
    Session,
}

/// What a lease is used for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunnerReuse {
    /// One layer after the other, as long as one fits.
    #[default]
    Packed,
    /// One build.
    PerBuild,
}

/// How runners are used, whatever provides them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunnerSettings {
    /// How contexts reach them.
    pub context_transfer: ContextTransfer,
    /// What a lease is used for.
    pub runner_reuse: RunnerReuse,
    /// What a run may cost, in the provider's currency.
    pub max_cost: Option<f64>,
    /// Leases at once; 0 is no bound of its own.
    pub max_leases: usize,
    /// A runner that is not ready after so many seconds is given back.
    pub boot_timeout_s: u64,
    /// No runner lives longer, minutes.
    pub max_lifetime_min: u64,
}

impl Default for RunnerSettings {
    fn default() -> Self {
        Self {
            context_transfer: ContextTransfer::default(),
            runner_reuse: RunnerReuse::default(),
            max_cost: None,
            max_leases: 0,
            boot_timeout_s: 180,
            max_lifetime_min: 240,
        }
    }
}

/// The settings of each provider that has any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Providers {
    /// Of `'docker_local`.
    pub docker_local: DockerLocalSettings,
    /// Of `'ssh`.
    pub ssh: SshSettings,
    /// Of `'hcloud`.
    pub hcloud: HcloudSettings,
    /// Of `'proxmox`.
    pub proxmox: Option<ProxmoxSettings>,
    /// Of `'vm_pool`.
    pub vm_pool: Option<VmPoolSettings>,
}

/// A Docker Engine on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DockerLocalSettings {
    /// The image that holds buildkitd, buildctl and a shell.
    pub image: String,
    /// The sizes that containers come in.
    pub sizes: Vec<DockerSize>,
    /// The network that containers join; Docker's default where unset.
    pub network: Option<String>,
}

/// A size of containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerSize {
    /// Virtual CPUs.
    pub cpu: u32,
    /// Memory, GB.
    pub memory_gb: u32,
}

impl Default for DockerLocalSettings {
    fn default() -> Self {
        let sizes = [(2, 4), (4, 8), (8, 16), (16, 32)].map(|(cpu, memory_gb)| DockerSize { cpu, memory_gb });
        Self { image: "moby/buildkit:v0.32.2".to_owned(), sizes: sizes.to_vec(), network: None }
    }
}

/// Fixed hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SshSettings {
    /// The hosts; a lease is an exclusive lock on one.
    pub hosts: Vec<SshHost>,
}

/// A host with sshd, rsync, buildkitd and buildctl.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshHost {
    /// An address or a name.
    pub address: String,
    /// sshd's port.
    #[serde(default = "port")]
    pub port: u16,
    /// Who logs in; buildkitd's socket must be open to it.
    #[serde(default = "root")]
    pub user: String,
    /// The host's public key, `ssh-ed25519 AAAA…`: nothing is trusted on first use.
    pub host_key: String,
    /// The private key to log in with; the agent's keys where unset.
    #[serde(default)]
    pub identity: Option<PathBuf>,
    /// Virtual CPUs.
    pub cpu: u32,
    /// Memory, GB.
    pub memory_gb: u32,
    /// `linux/amd64` and the like.
    pub platform: Platform,
}

fn port() -> u16 {
    22
}

fn root() -> String {
    "root".to_owned()
}

/// Servers of a Hetzner Cloud project. The token is `HCLOUD_TOKEN`'s, the address `HCLOUD_ENDPOINT`'s where that is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HcloudSettings {
    /// The image that servers boot: a system image's name, or a snapshot's id where `prepared`.
    pub image: String,
    /// Whether the image holds buildkitd, buildctl, runc and rsync already.
    pub prepared: bool,
    /// Where to ask, in this order.
    pub locations: Vec<String>,
    /// Server types, smallest first.
    pub server_types: Vec<String>,
    /// Labels beside our own.
    pub labels: BTreeMap<String, String>,
    /// Whether servers get a public IPv4 address, which is billed.
    pub ipv4: bool,
    /// BuildKit's release, fetched at first boot where the image is not prepared.
    pub buildkit: BuildkitRelease,
}

impl Default for HcloudSettings {
    fn default() -> Self {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        Self {
            image: "debian-13".to_owned(),
            prepared: false,
            locations: texts(&["fsn1", "nbg1", "hel1"]),
            server_types: texts(&["cax11", "cax21", "cax31", "cax41"]),
            labels: BTreeMap::new(),
            ipv4: true,
            buildkit: BuildkitRelease::default(),
        }
    }
}

/// A release archive with buildkitd, buildctl and runc.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BuildkitRelease {
    /// Address of the archive, with `{arch}` for `amd64` or `arm64`; BuildKit's own release of v0.32.2 where unset.
    pub url: Option<String>,
    /// SHA-256 of the archive, hex, by architecture (`amd64`, `arm64`).
    pub sha256: BTreeMap<String, String>,
}

/// Virtual machines cloned from a template. The token is `PROXMOX_TOKEN`'s (`USER@REALM!TOKENID=UUID`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxmoxSettings {
    /// `https://host:8006`.
    pub endpoint: String,
    /// The node that holds the template and runs the machines.
    pub node: String,
    /// The template's id.
    pub template: u32,
    /// The range of ids to clone to, both ends included.
    pub ids: (u32, u32),
    /// The pool that the machines join.
    #[serde(default)]
    pub pool: Option<String>,
    /// SHA-256 fingerprint of the API's certificate, `AB:CD:…`: pinned.
    #[serde(default)]
    pub fingerprint: Option<String>,
    /// A CA certificate (PEM) of the API, where no fingerprint is pinned.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Whether clones are full ones rather than linked.
    #[serde(default)]
    pub full_clone: bool,
    /// What the machines are, `linux/amd64` where unset.
    #[serde(default = "amd64")]
    pub platform: Platform,
}

fn amd64() -> Platform {
    Platform::new("linux/amd64")
}

/// A service that leases runners. The token is `LIAN_POOL_TOKEN`'s.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmPoolSettings {
    /// `https://pool.example`.
    pub endpoint: String,
    /// The workspace that leases are asked for.
    pub workspace: String,
}

/// A registry as an image store. Credentials come from `~/.docker/config.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrySettings {
    /// `host[:port][/prefix]`.
    pub address: String,
    /// Whether it is spoken to without TLS.
    #[serde(default)]
    pub plain_http: bool,
}
