//! The network of the steps that our own daemon runs: one of their own, behind a bridge, where this machine has what that
//! takes; else this machine's. Not responsible for: making it (BuildKit runs CNI's plugins), daemons of somebody else.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use super::binaries::{is_executable, on_path};
use serde::{Deserialize, Serialize};

use crate::domain::base::Digest;
use crate::system::read::{self, Cap};

/// CNI's plugins that make a network.
const PLUGINS: [&str; 4] = ["bridge", "firewall", "host-local", "loopback"];
/// Where CNI's own releases and distributions put them.
const FOLDERS: [&str; 4] = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni", "/usr/local/lib/cni"];
/// What steps' addresses are taken from: set aside for tests of routers (RFC 2544), so that no site uses them.
const RANGE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
/// How many networks of 256 addresses [`RANGE`] has.
const NETWORKS: u32 = 512;
/// A route to a larger part of the world than this is a default route: some VPNs have two of one half each.
const DEFAULT_BITS: u32 = 8;

/// The network that the steps of our own daemon get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// One of their own.
    Own(Own),
    /// This machine's.
    Shared(Shared),
}

/// A network of the steps' own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    bridge: String,
    subnet: Ipv4Addr,
    mtu: Option<u32>,
    plugins: Vec<PathBuf>,
}

/// Why steps share this machine's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// What is missing.
    pub why: String,
    /// The next action.
    pub mend: String,
}

/// What is said of steps on this machine's network.
pub const REACH: &str = "steps share this machine's network, and reach what listens on 127.0.0.1";

/// What this machine has for a network.
#[derive(Debug, Clone, Default)]
struct Machine {
    plugins: Vec<PathBuf>,
    iptables: bool,
    /// `/proc/net/route`.
    routes: String,
    /// `/proc/net/ipv6_route`.
    routes6: String,
    /// `/etc/resolv.conf`.
    resolv: String,
    /// Whether systemd's resolver tells which servers it asks: BuildKit gives steps these.
    resolved: bool,
}

impl Network {
    /// What the daemon of this folder would get if it started now.
    pub fn here(folder: &Path, buildkitd: Option<&Path>) -> Self {
        let text = |path: &str| read::text_of_user(Path::new(path), Cap::Answer).unwrap_or_default();
        let machine = Machine {
            plugins: plugins(buildkitd.and_then(Path::parent), &FOLDERS.map(Path::new)),
            iptables: on_path("iptables").is_some(),
            routes: text("/proc/net/route"),
            routes6: text("/proc/net/ipv6_route"),
            resolv: text("/etc/resolv.conf"),
            resolved: Path::new("/run/systemd/resolve/resolv.conf").exists(),
        };
        match machine.network(folder) {
            Self::Own(own) => Self::Own(Own { mtu: machine.default_device().and_then(mtu), ..own }),
            shared @ Self::Shared(_) => shared,
        }
    }

    /// The part of `buildkitd.toml` below `[worker.oci]`.
    pub(super) fn toml(&self, folder: &Path) -> String {
        let quoted = |path: PathBuf| serde_json::Value::from(path.display().to_string()).to_string();
        match self {
            Self::Shared(_) => "networkMode = \"host\"\n".to_owned(),
            Self::Own(_) => format!(
                "networkMode = \"cni\"\ncniConfigPath = {}\ncniBinaryPath = {}\n",
                quoted(conflist(folder)),
                quoted(links(folder))
            ),
        }
    }

    /// Why it is this machine's, if it is.
    pub(super) fn shared(self) -> Option<Shared> {
        match self {
            Self::Own(_) => None,
            Self::Shared(shared) => Some(shared),
        }
    }

    /// Writes into the daemon's folder what BuildKit needs to make it, or why it cannot be had.
    pub(super) fn lay_out(&self, folder: &Path) -> std::io::Result<()> {
        let own = match self {
            Self::Own(own) => own,
            Self::Shared(shared) => return std::fs::write(reason(folder), serde_json::to_string(shared)?),
        };
        let links = links(folder);
        match std::fs::remove_dir_all(&links) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => std::fs::create_dir(&links)?,
        }
        for (name, plugin) in PLUGINS.iter().zip(&own.plugins) {
            std::os::unix::fs::symlink(plugin, links.join(name))?;
        }
        std::fs::write(conflist(folder), own.conflist(&folder.join("cni-addresses")).to_string())
    }
}

impl Shared {
    /// Why the running daemon of this folder got this machine's network.
    pub(super) fn of_running(folder: &Path) -> Self {
        let written = || serde_json::from_slice(&read::of_user(&reason(folder), Cap::Answer).ok()?).ok();
        written().unwrap_or_else(|| Self {
            why: "its daemon was started by an older lian-build".to_owned(),
            mend: "wait until it has stopped: ten minutes after its last use".to_owned(),
        })
    }

    /// Of a daemon that somebody else started.
    pub(super) fn of_another() -> Self {
        Self {
            why: "the daemon of BUILDKIT_HOST is set up so".to_owned(),
            mend: "start it with `--oci-worker-net bridge`, or unset BUILDKIT_HOST".to_owned(),
        }
    }

    /// The daemon did not start with a network of its steps' own.
    pub(super) fn after_a_try(log: &Path) -> Self {
        Self {
            why: "buildkitd could not make one of their own".to_owned(),
            mend: format!("its log, {}, says what is missing; then let it start anew", log.display()),
        }
    }
}

impl Own {
    /// CNI's configuration: a bridge with this machine at its first address, which forwards to the world and lets answers in.
    fn conflist(&self, addresses: &Path) -> serde_json::Value {
        let mut bridge = serde_json::json!({
            "type": "bridge", "bridge": self.bridge, "isDefaultGateway": true, "forceAddress": true, "ipMasq": true,
            "ipam": {"type": "host-local", "dataDir": addresses, "ranges": [[{"subnet": format!("{}/24", self.subnet)}]]},
        });
        if let Some(mtu) = self.mtu {
            bridge["mtu"] = mtu.into();
        }
        let firewall = serde_json::json!({"type": "firewall"});
        // 0.4.0 is known to plugins since 2019.
        serde_json::json!({"cniVersion": "0.4.0", "name": self.bridge, "plugins": [bridge, firewall]})
    }
}

impl Machine {
    fn network(&self, folder: &Path) -> Network {
        let shared = |why: &str, mend: &str| Network::Shared(Shared { why: why.to_owned(), mend: mend.to_owned() });
        if self.plugins.is_empty() {
            let mend = "apt-get install containernetworking-plugins, or put the buildkit-cni-* programs of BuildKit's release beside buildkitd";
            return shared("CNI's plugins are missing", mend);
        }
        if !self.iptables {
            return shared("iptables is not on the PATH", "apt-get install iptables");
        }
        if self.default_device().is_none() && self.only_ipv6() {
            return shared("this machine reaches the world by IPv6 alone", "give this machine a route for IPv4");
        }
        if let Some(server) = self.unreachable_resolver() {
            let why = format!("names are resolved by {server}, which only this machine reaches");
            return shared(&why, "name a server in /etc/resolv.conf that others reach, too");
        }
        let bridge = bridge(folder);
        match self.free_subnet(folder, &bridge) {
            Some(subnet) => Network::Own(Own { bridge, subnet, mtu: None, plugins: self.plugins.clone() }),
            None => shared("no addresses of 198.18.0.0/15 are free", "remove routes there that nobody needs"),
        }
    }

    /// The device of the default route.
    fn default_device(&self) -> Option<&str> {
        routes(&self.routes).find(|route| route.mask == 0).map(|route| route.device)
    }

    fn only_ipv6(&self) -> bool {
        let nowhere = "0".repeat(32);
        self.routes6.lines().any(|line| {
            let mut fields = line.split_whitespace();
            fields.next() == Some(&nowhere) && fields.next() == Some("00") && fields.next_back() != Some("lo")
        })
    }

    fn resolvers(&self) -> impl Iterator<Item = &str> {
        self.resolv.lines().filter_map(|line| line.trim().strip_prefix("nameserver")?.split_whitespace().next())
    }

    /// The one that answers on the loopback, if there is no other one.
    fn unreachable_resolver(&self) -> Option<&str> {
        let on_loopback = |server: &&str| server.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
        let first = self.resolvers().next()?;
        let systemd = self.resolved && self.resolvers().eq(["127.0.0.53"]);
        (!systemd && self.resolvers().all(|server| on_loopback(&server))).then_some(first)
    }

    /// The same for a folder as long as nothing else uses it. What a route or a resolver has is left alone.
    fn free_subnet(&self, folder: &Path, bridge: &str) -> Option<Ipv4Addr> {
        let taken: Vec<Route<'_>> = routes(&self.routes)
            .filter(|route| route.mask.count_ones() >= DEFAULT_BITS && route.device != bridge)
            .chain(self.resolvers().filter_map(|server| {
                Some(Route { device: "", destination: server.parse::<Ipv4Addr>().ok()?.to_bits(), mask: u32::MAX })
            }))
            .collect();
        let first = u32::from_str_radix(&hash(folder)[..4], 16).unwrap_or_default();
        let subnets = (0..NETWORKS).map(|step| RANGE.to_bits() + (((first + step) % NETWORKS) << 8));
        let is_free = |subnet: &u32| {
            let overlaps = |route: &Route<'_>| (subnet ^ route.destination) & route.mask & 0xffff_ff00 == 0;
            !taken.iter().any(overlaps)
        };
        subnets.into_iter().find(is_free).map(Ipv4Addr::from_bits)
    }
}

/// A line of `/proc/net/route`.
struct Route<'a> {
    device: &'a str,
    destination: u32,
    mask: u32,
}

fn routes(table: &str) -> impl Iterator<Item = Route<'_>> {
    // The kernel prints the bytes of an address as the number that they are on this machine.
    let number = |text: &str| u32::from_str_radix(text, 16).map(u32::from_be).ok();
    table.lines().skip(1).filter_map(move |line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (destination, mask) = (number(fields.get(1)?)?, number(fields.get(7)?)?);
        Some(Route { device: fields.first()?, destination, mask })
    })
}

/// All plugins, in the order of [`PLUGINS`]: those of BuildKit's releases first, which lie beside it or on the PATH.
fn plugins(beside: Option<&Path>, folders: &[&Path]) -> Vec<PathBuf> {
    let is_there = |path: &PathBuf| is_executable(path);
    let of_buildkit = PLUGINS.map(|name| {
        let name = format!("buildkit-cni-{name}");
        beside.map(|folder| folder.join(&name)).filter(is_there).or_else(|| on_path(&name))
    });
    let sets = folders.iter().map(|folder| PLUGINS.map(|name| Some(folder.join(name)).filter(is_there)));
    let whole = |set: [Option<PathBuf>; 4]| set.into_iter().collect::<Option<Vec<PathBuf>>>();
    std::iter::once(of_buildkit).chain(sets).find_map(whole).unwrap_or_default()
}

/// The largest packets of a device.
fn mtu(device: &str) -> Option<u32> {
    let path = Path::new("/sys/class/net").join(device).join("mtu");
    read::text_of_user(&path, Cap::Answer).ok()?.trim().parse().ok()
}

/// The name of a daemon's bridge: devices' names have 15 bytes at most.
pub(super) fn bridge(folder: &Path) -> String {
    format!("lian-{}", &hash(folder)[..8])
}

fn hash(folder: &Path) -> String {
    Digest::of(folder.as_os_str().as_encoded_bytes()).hex().to_owned()
}

/// The file that says why a daemon got this machine's network.
fn reason(folder: &Path) -> PathBuf {
    folder.join("shared-network.json")
}

/// CNI's configuration of a daemon.
pub(super) fn conflist(folder: &Path) -> PathBuf {
    folder.join("cni.conflist")
}

/// The folder of links to the plugins: BuildKit wants them together, by their own names.
pub(super) fn links(folder: &Path) -> PathBuf {
    folder.join("cni")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n";

    /// `/proc/net/route` with these networks, as `a.b.c.d/bits device`.
    fn table(routes: &[&str]) -> String {
        let line = |route: &&str| {
            let (network, device) = route.split_once(' ').expect("a device");
            let (address, bits) = network.split_once('/').expect("bits");
            let printed = |bits: u32| format!("{:08X}", bits.to_be());
            let mask = u32::MAX.checked_shl(32 - bits.parse::<u32>().expect("a number")).unwrap_or(0);
            let address = printed(address.parse::<Ipv4Addr>().expect("an address").to_bits());
            format!("{device}\t{address}\t00000000\t0001\t0\t0\t0\t{}\t0\t0\t0\n", printed(mask))
        };
        HEAD.to_owned() + &routes.iter().map(line).collect::<String>()
    }

    fn machine() -> Machine {
        Machine {
            plugins: PLUGINS.map(PathBuf::from).to_vec(),
            iptables: true,
            routes: table(&["0.0.0.0/0 eth0", "192.0.2.0/24 eth0"]),
            resolv: "search example\nnameserver 192.0.2.53\n".to_owned(),
            ..Machine::default()
        }
    }

    fn subnet(machine: &Machine) -> Option<Ipv4Addr> {
        match machine.network(Path::new("/data")) {
            Network::Own(own) => Some(own.subnet),
            Network::Shared(_) => None,
        }
    }

    #[test]
    fn steps_get_a_network_of_their_own_whose_addresses_nothing_else_has() {
        let first = subnet(&machine()).expect("a network");
        assert!(first.octets()[..2] == [198, 18] || first.octets()[..2] == [198, 19], "{first}");
        let own = bridge(Path::new("/data"));
        assert!(own.len() <= 15);
        let with = |routes: &[&str]| subnet(&Machine { routes: table(routes), ..machine() });
        assert_eq!(with(&[&format!("{first}/24 {own}"), "0.0.0.0/1 tun0", "128.0.0.0/1 tun0"]), Some(first));
        let next = Ipv4Addr::from_bits(first.to_bits() + 256);
        assert_eq!(with(&[&format!("{first}/24 other")]), Some(next));
        assert_eq!(with(&[&format!("{first}/32 other")]), Some(next));
        assert_eq!(with(&["198.18.0.0/15 other"]), None);
        let resolv = format!("nameserver {}\n", Ipv4Addr::from_bits(first.to_bits() + 7));
        assert_eq!(subnet(&Machine { resolv, ..machine() }), Some(next));
    }

    #[test]
    fn where_it_cannot_be_had_or_would_not_work_the_reason_is_told() {
        let why = |machine: Machine| match machine.network(Path::new("/data")) {
            Network::Shared(Shared { why, mend }) => {
                assert!(!mend.is_empty());
                why
            }
            Network::Own(_) => String::new(),
        };
        assert!(why(Machine { plugins: Vec::new(), ..machine() }).contains("plugins"));
        assert!(why(Machine { iptables: false, ..machine() }).contains("iptables"));
        let routes6 = format!("{0} 00 {0} 00 fe80 00000400 1 0 3 eth0\n", "0".repeat(32));
        assert!(why(Machine { routes: table(&[]), routes6: routes6.clone(), ..machine() }).contains("IPv6"));
        assert_eq!(why(Machine { routes6, ..machine() }), "");
        assert_eq!(why(Machine { routes: table(&[]), ..machine() }), "", "a machine without any network");
        let resolv = |text: &str, resolved| why(Machine { resolv: text.to_owned(), resolved, ..machine() });
        assert!(resolv("nameserver 127.0.0.1\n", true).contains("127.0.0.1"));
        assert!(resolv("nameserver 127.0.0.53\n", false).contains("127.0.0.53"));
        assert_eq!(resolv("nameserver 127.0.0.53\n", true), "");
        assert_eq!(resolv("nameserver 127.0.0.1\nnameserver 192.0.2.53\n", false), "");
    }

    #[test]
    fn the_plugins_of_buildkits_release_or_of_a_distribution_are_found_whole_or_not_at_all() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().expect("a folder");
        let put = |name: &str| {
            std::fs::write(root.path().join(name), "").expect("a file");
            std::fs::set_permissions(root.path().join(name), PermissionsExt::from_mode(0o755)).expect("a mode");
        };
        PLUGINS[..3].iter().for_each(|name| put(name));
        assert!(plugins(None, &[root.path()]).is_empty());
        put(PLUGINS[3]);
        assert_eq!(plugins(None, &[root.path()])[0], root.path().join("bridge"));
        PLUGINS.iter().for_each(|name| put(&format!("buildkit-cni-{name}")));
        assert_eq!(plugins(Some(root.path()), &[])[3], root.path().join("buildkit-cni-loopback"));
    }
}
