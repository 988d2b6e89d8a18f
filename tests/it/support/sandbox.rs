//! A host as a runner is one: a network namespace with its own address, sshd with its own host key, rsync, buildkitd, and
//! a memory limit on the builds. It ends with this process, however that ends. Not responsible for: knowing who asked for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Permissions};
use std::io::{ErrorKind, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Signal, set_parent_process_death_signal};

use super::machines::{Booted, Machines, Order};
use super::{buildkitd, clock};

/// Bytes of a sandbox's memory for each GB that its size has: builds of tests are small.
pub const BYTES_A_GB: u64 = 16 << 20;

/// What the first process of a host does: files of its own over the machine's, a daemon, and sshd.
const FIRST_PROCESS: &str = r#"
set -e
mount --bind "$BIN" /usr/local/bin
cp -r "$FILES" /dev/shm/.files-$NAME
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/buildkit /run/sshd /run/lian /workspace
mv /dev/shm/.files-$NAME /run/files
mount -t tmpfs -o mode=700 tmpfs /root
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /workspace
mkdir -p /var/lib/lian-build
mount -t tmpfs tmpfs /var/lib/lian-build
mkdir -m 700 /root/.ssh
cp /run/files/authorized_keys /root/.ssh/authorized_keys
echo "$CGROUP" >/run/lian/cgroup
(while :; do buildkitd --config /run/files/buildkitd.toml >>/run/buildkitd.log 2>&1 || true
  [ -e /run/lian/no-restart ] && exit 0; sleep 0.2; done) </dev/null >/dev/null 2>&1 &
(while ! [ -S /run/buildkit/buildkitd.sock ]; do sleep 0.02; done; : >/run/lian/ready) </dev/null >/dev/null 2>&1 &
exec /usr/sbin/sshd -D -e -f /run/files/sshd_config </dev/null >/run/sshd.log 2>&1
"#;

/// The last line of it.
const SSHD: &str = "exec /usr/sbin/sshd ";
/// Beside it, a daemon that never comes to answer.
const HANG: &str = "(until pkill -STOP buildkitd; do sleep 0.01; done) </dev/null >/dev/null 2>&1 &";

/// One host.
pub struct Sandbox {
    name: String,
    first: Child,
    /// Of its sshd, port 22.
    pub address: IpAddr,
    /// The same.
    pub ipv6: Ipv6Addr,
    /// sshd's public key, `ssh-ed25519 AAAA…`.
    pub host_key: String,
    files: tempfile::TempDir,
    _number: File,
}

/// Hosts by the name that a cloud gave them.
#[derive(Default)]
pub struct Sandboxes {
    hosts: Mutex<BTreeMap<String, Sandbox>>,
    /// By how many hours the clocks of hosts to come are ahead.
    ahead: AtomicI64,
    /// So many hosts to come have a daemon that hangs from the beginning.
    sick: AtomicU32,
}

impl Machines for Sandboxes {
    fn boot(&self, order: &Order) -> Booted {
        let (ahead, mut script) = (self.ahead.load(Ordering::Relaxed), FIRST_PROCESS.to_owned());
        if self.sick.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            script = script.replacen(SSHD, &format!("{HANG}\n{SSHD}"), 1);
        }
        let clock = if ahead == 0 { Vec::new() } else { clock::off(ahead).to_vec() };
        let sandbox = Sandbox::boot_by(order, &script, |files| {
            // What sessions run sees the clock. sshd itself must not: its own sandbox forbids what the library does.
            let set: String = clock.iter().map(|(name, value)| format!(" {name}={value}")).collect();
            if !set.is_empty() {
                let path = files.join("sshd_config");
                let config = std::fs::read_to_string(&path).expect("a file");
                std::fs::write(path, format!("{config}SetEnv{set}\n")).expect("writable");
            }
        });
        let booted = Booted { address: sandbox.address, ipv6: Some(sandbox.ipv6), host_key: sandbox.host_key.clone() };
        self.hosts.lock().expect("whole").insert(order.name.clone(), sandbox);
        booted
    }

    fn kill(&self, name: &str) {
        // Dropped outside the lock: an end takes its time.
        let gone = self.hosts.lock().expect("whole").remove(name);
        drop(gone);
    }
}

impl Sandboxes {
    /// The hosts that live.
    pub fn alive(&self) -> Vec<String> {
        self.hosts.lock().expect("whole").keys().cloned().collect()
    }

    /// From now on the clocks of hosts to come are so many hours ahead; behind where that is negative.
    pub fn clock_ahead(&self, hours: i64) {
        self.ahead.store(hours, Ordering::Relaxed);
    }

    /// So many hosts to come have a daemon that hangs from the beginning.
    pub fn sick(&self, hosts: u32) {
        self.sick.store(hosts, Ordering::Relaxed);
    }

    /// Cuts every host that lives off the network.
    pub fn cut_each(&self) {
        for host in self.hosts.lock().expect("whole").values() {
            host.cut(true);
        }
    }

    /// Runs a shell command on every host that lives.
    pub fn on_each(&self, script: &str) {
        for host in self.hosts.lock().expect("whole").values() {
            host.run(script);
        }
    }
}

impl Sandbox {
    /// Boots one; on return its sshd may not listen yet, as with a real one.
    pub fn boot(order: &Order) -> Self {
        Self::boot_by(order, FIRST_PROCESS, |_| {})
    }

    /// Boots one whose first process runs this script, with what `prepare` writes beside its files.
    pub fn boot_by(order: &Order, first_process: &str, prepare: impl FnOnce(&Path)) -> Self {
        sweep();
        let (number, lock) = take_number();
        let name = format!("lian{number}x{}", std::process::id());
        let (outside, inside) = addresses(number);
        let (beyond, ipv6) = ipv6_addresses(number);
        let files = tempfile::tempdir().expect("a folder");
        let host_key = write_files(files.path(), &name, order);
        prepare(files.path());
        sh(&format!("ip netns add {name}"));
        let link = format!("v{name:.13}");
        ip(
            &[],
            &format!(
                "link add {link} type veth peer name eth0 netns {name}\naddr add {outside}/30 dev {link}\n\
                 link set {link} up\naddr add {beyond}/64 dev {link} nodad\n"
            ),
        );
        ip(
            &["-n", &name],
            &format!(
                "addr add {ipv6}/64 dev eth0 nodad\naddr add {inside}/30 dev eth0\nlink set lo up\n\
                 link set eth0 up\nroute add default via {outside}\n"
            ),
        );
        let (cpu, memory) = (order.cpu.max(1), order.memory_gb.max(1));
        let cgroup = limit_memory(&name, u64::from(memory) * BYTES_A_GB);
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{name}"));
        command.args([
            "unshare",
            "-m",
            "-p",
            "-f",
            "--kill-child=KILL",
            "--mount-proc",
            "/bin/sh",
            "-c",
            first_process,
        ]);
        command.env("NAME", &name).env("FILES", files.path()).env("CGROUP", cgroup).env("CPUS", cpu.to_string());
        command.env("BIN", buildkitd::binaries().buildctl.parent().expect("a folder"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let first = spawn(command);
        Self { name, first, address: inside.into(), ipv6, host_key, files, _number: lock }
    }

    /// One with these keys and this size that has booted, for tests that need no cloud: a fixed host does not boot.
    pub fn with(authorized_key: &str, cpu: u32, memory_gb: u32) -> Self {
        let authorized_keys = vec![authorized_key.to_owned()];
        let host = Self::boot(&Order { name: "sandbox".to_owned(), cpu, memory_gb, authorized_keys, host_key: None });
        host.until("[ -e /run/lian/ready ] && grep ':0016 00000000:0000 0A' /proc/net/tcp");
        host
    }

    /// Runs a shell command on it, as root, and waits for its end; says what it printed.
    pub fn run(&self, script: &str) -> String {
        let Some(inside) = self.init() else { return String::new() };
        let mut command = Command::new("nsenter");
        command.args(["-t", &inside.to_string(), "-m", "-p", "-n", "/bin/sh", "-c", script]);
        let output = command.stdin(Stdio::null()).output().expect("nsenter runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a shell command on it until it prints something, and says what.
    #[track_caller]
    pub fn until(&self, script: &str) -> String {
        let started = Instant::now();
        loop {
            let said = self.run(script);
            if !said.trim().is_empty() {
                return said;
            }
            assert!(started.elapsed() < Duration::from_secs(180), "nothing came of {script}: {}", self.state());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Cuts its network off, or mends it.
    pub fn cut(&self, cut: bool) {
        let state = if cut { "down" } else { "up" };
        sh(&format!("ip link set v{:.13} {state}", self.name));
    }

    /// Lays a network of their own between this host and another one; the other's address in it, which nobody else reaches.
    pub fn join(&self, other: &Self) -> IpAddr {
        let (number, _lock) = take_number();
        let first = u32::from(Ipv4Addr::new(10, 214, 0, 0)) + number * 4;
        let (own, others) = (Ipv4Addr::from(first + 1), Ipv4Addr::from(first + 2));
        let (here, there) = (&self.name, &other.name);
        sh(&format!(
            "set -e; ip link add j{number} netns {here} type veth peer name j{number} netns {there}; \
             ip -n {here} addr add {own}/30 dev j{number}; ip -n {here} link set j{number} up; \
             ip -n {there} addr add {others}/30 dev j{number}; ip -n {there} link set j{number} up"
        ));
        others.into()
    }

    /// What there is to know of one that does not do what it should.
    fn state(&self) -> String {
        let look = "ps ax; tail -n 20 /run/buildkitd.log /run/sshd.log; df /run /dev/shm";
        let first = std::fs::read_to_string(format!("/proc/{}/status", self.first.id())).unwrap_or_default();
        let first = first.lines().find(|line| line.starts_with("State:")).unwrap_or("it has ended");
        format!("{first} (first process: {:?})\n{}", self.init(), self.run(&format!("({look}) 2>&1")))
    }

    /// Its first process, which is `unshare`'s child.
    fn init(&self) -> Option<u32> {
        let children = format!("/proc/{0}/task/{0}/children", self.first.id());
        std::fs::read_to_string(children).ok()?.split_whitespace().next()?.parse().ok()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.first.kill();
        let _ = self.first.wait();
        remove(&self.name);
        let _ = self.files.path();
    }
}

/// A key pair; the folder holds `id` and `id.pub`.
pub fn key_pair(folder: &Path) -> (PathBuf, String) {
    let path = folder.join("id");
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"]).arg(&path);
    assert!(command.status().expect("ssh-keygen runs").success());
    let public = std::fs::read_to_string(folder.join("id.pub")).expect("a key");
    (path, public.trim().to_owned())
}

fn write_files(folder: &Path, name: &str, order: &Order) -> String {
    let write = |file: &str, text: &str| std::fs::write(folder.join(file), text).expect("writable");
    write("authorized_keys", &(order.authorized_keys.join("\n") + "\n"));
    let key = folder.join("host_key");
    let public = if let Some(private) = &order.host_key {
        std::fs::write(&key, private).expect("writable");
        std::fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("ours");
        let private = ssh_key::PrivateKey::from_openssh(private).expect("a private key");
        private.public_key().to_openssh().expect("a key")
    } else {
        sh(&format!("ssh-keygen -q -t ed25519 -N '' -C '' -f '{}'", key.display()));
        std::fs::read_to_string(folder.join("host_key.pub")).expect("a key")
    };
    write(
        "sshd_config",
        "Port 22\nHostKey /run/files/host_key\nPidFile none\nUsePAM no\nStrictModes no\nMaxSessions 64\nMaxStartups 64\n\
         PasswordAuthentication no\nPermitRootLogin prohibit-password\nAllowStreamLocalForwarding yes\n\
         AuthorizedKeysFile /root/.ssh/authorized_keys\nSubsystem sftp internal-sftp\n",
    );
    write(
        "buildkitd.toml",
        &format!(
            "root = \"/run/buildkit-root\"\n[grpc]\naddress = [\"unix:///run/buildkit/buildkitd.sock\"]\n\
             [worker.containerd]\nenabled = false\n[worker.oci]\nenabled = true\ndefaultCgroupParent = \"{name}\"\n{}",
            http_registries()
        ),
    );
    let mut parts = public.split_whitespace();
    format!("{} {}", parts.next().expect("a type"), parts.next().expect("a key"))
}

/// Registries of tests speak plain HTTP on an address that every host reaches.
fn http_registries() -> String {
    let ports = registry_ports().lock().expect("whole");
    ports.iter().map(|host| format!("[registry.\"{host}\"]\nhttp = true\n")).collect()
}

/// An address of this machine that every host reaches: what listens everywhere is met there.
pub fn meeting_place() -> &'static str {
    static ONCE: OnceLock<()> = OnceLock::new();
    const ADDRESS: &str = "10.212.0.1";
    ONCE.get_or_init(|| {
        sh(&format!("ip addr show dev lo | grep -q {ADDRESS}/32 || ip addr add {ADDRESS}/32 dev lo || true"))
    });
    ADDRESS
}

/// `host:port` of registries that later hosts may speak plain HTTP with: a set, since the port of one that has ended may
/// be the next one's, and no daemon starts with a table of its configuration twice.
pub fn registry_ports() -> &'static Mutex<BTreeSet<String>> {
    static PORTS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    &PORTS
}

/// A number that no other host on this machine has, for as long as the file is held.
fn take_number() -> (u32, File) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let folder = std::env::temp_dir().join("lian-sandbox-numbers");
    std::fs::create_dir_all(&folder).expect("a folder");
    loop {
        let number = (std::process::id() + NEXT.fetch_add(1, Ordering::Relaxed)) % 16_000;
        let file = File::options().create(true).truncate(false).write(true).open(folder.join(number.to_string()));
        let file = file.expect("a lock file");
        if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok() {
            return (number, file);
        }
    }
}

/// The two ends of a host's own network: outside, inside.
fn addresses(number: u32) -> (Ipv4Addr, Ipv4Addr) {
    let first = u32::from(Ipv4Addr::new(10, 213, 0, 0)) + number * 4;
    (Ipv4Addr::from(first + 1), Ipv4Addr::from(first + 2))
}

/// The same by IPv6: the host's own is the first of its network.
fn ipv6_addresses(number: u32) -> (Ipv6Addr, Ipv6Addr) {
    let network = Ipv6Addr::new(0xfd5a, 0x213, 0, 0, 0, 0, 0, 0).to_bits() | u128::from(number) << 64;
    (Ipv6Addr::from_bits(network | 2), Ipv6Addr::from_bits(network | 1))
}

/// A cgroup for the builds' steps; the folder that its counters are in.
fn limit_memory(name: &str, bytes: u64) -> PathBuf {
    let old = Path::new("/sys/fs/cgroup/memory").is_dir();
    let folder = if old { format!("/sys/fs/cgroup/memory/{name}") } else { format!("/sys/fs/cgroup/{name}") };
    std::fs::create_dir_all(&folder).expect("a cgroup");
    let folder = PathBuf::from(folder);
    if old {
        std::fs::write(folder.join("memory.limit_in_bytes"), bytes.to_string()).expect("a limit");
        // Where swap is counted: there is none for builds.
        let _ = std::fs::write(folder.join("memory.memsw.limit_in_bytes"), bytes.to_string());
    } else {
        for controller in ["memory", "cpu", "pids"] {
            let _ = std::fs::write("/sys/fs/cgroup/cgroup.subtree_control", format!("+{controller}"));
            let _ = std::fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}"));
        }
        std::fs::write(folder.join("memory.max"), bytes.to_string()).expect("a limit");
        let _ = std::fs::write(folder.join("memory.swap.max"), "0");
    }
    folder
}

/// Starts a process that ends with this one. The signal is bound to the thread that starts it: one thread that stays.
pub fn spawn(mut command: Command) -> Child {
    type Job = (Command, mpsc::Sender<Child>);
    static STARTER: OnceLock<Mutex<mpsc::Sender<Job>>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, answer) in jobs {
                let _ = answer.send(command.spawn().expect("a host starts"));
            }
        });
        Mutex::new(sender)
    });
    // SAFETY: between fork and exec only this one system call is made; it allocates nothing and takes no lock.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(&mut command, || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            Ok(())
        });
    }
    let (answer, child) = mpsc::channel();
    starter.lock().expect("whole").send((command, answer)).expect("the starter lives");
    child.recv().expect("a host starts")
}

/// Takes away what hosts of dead test processes left.
fn sweep() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name.strip_prefix("lian").and_then(|rest| rest.split_once('x')).map(|(_, pid)| pid.to_owned());
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                remove(&name);
            }
        }
    });
}

fn remove(name: &str) {
    let quiet = |program: &str, arguments: &[&str]| {
        let _ = Command::new(program).args(arguments).stderr(Stdio::null()).stdout(Stdio::null()).status();
    };
    quiet("ip", &["link", "delete", &format!("v{name:.13}")]);
    quiet("ip", &["netns", "delete", name]);
    let (started, mut folders) = (Instant::now(), cgroups(name));
    // What was in them may still be ending.
    loop {
        folders.retain(|folder| !remove_cgroup(folder));
        if folders.is_empty() || started.elapsed() > Duration::from_secs(5) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A cgroup with all below it: its files are the kernel's, and go with their folder. Says whether it is gone.
fn remove_cgroup(folder: &Path) -> bool {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    std::fs::remove_dir(folder).map_or_else(|error| error.kind() == ErrorKind::NotFound, |()| true)
}

/// The cgroups of a host, in every hierarchy.
fn cgroups(name: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let below = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path().join(name));
    below.chain([root.join(name)]).filter(|folder| folder.is_dir()).collect()
}

#[test]
fn a_host_that_ends_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, public) = key_pair(folder.path());
    let hosts = Sandboxes::default();
    let order = Order { name: "one".into(), cpu: 1, memory_gb: 2, authorized_keys: vec![public], host_key: None };
    let booted = hosts.boot(&order);
    assert!(booted.host_key.starts_with("ssh-ed25519 ") && booted.address.is_ipv4());
    let name = hosts.hosts.lock().expect("whole")["one"].name.clone();
    assert!(!cgroups(&name).is_empty() && Path::new("/run/netns").join(&name).exists());
    hosts.kill("one");
    hosts.kill("one");
    assert!(cgroups(&name).is_empty() && !Path::new("/run/netns").join(&name).exists(), "{name} is still there");
}

/// Has `ip` do all of this: one process for many lines.
fn ip(options: &[&str], lines: &str) {
    let mut command = Command::new("ip");
    command.args(options).args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("ip runs");
    child.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{lines}: {}", String::from_utf8_lossy(&output.stderr));
}

fn sh(script: &str) {
    let output = Command::new("sh").args(["-c", script]).output().expect("sh runs");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}
