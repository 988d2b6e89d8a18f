//! A runner's first boot, run for real: what cloud-init is told is done, in its order, in a network and on mounts of its
//! own. Only systemd, the download and BuildKit's programs are stand-ins. Not responsible for: taking the text's word for it.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lian_build::adapters::providers::hcloud::{BuildkitRelease, HcloudSettings};
use lian_build::domain::base::Digest;
use lian_build::domain::ports::{ComputeProvider as _, LeaseRecord};

use super::{Cloud, pace, request, settings};
use crate::support::cloud_init::CloudConfig;

/// What the scripts may use, beside a way to close the metadata service.
const TOOLS: &[&str] = &[
    "sh",
    "bash",
    "busybox",
    "cat",
    "chmod",
    "cp",
    "cut",
    "date",
    "env",
    "find",
    "grep",
    "gzip",
    "head",
    "install",
    "ip",
    "ls",
    "mkdir",
    "mount",
    "rm",
    "sed",
    "sha256sum",
    "sleep",
    "tar",
    "timeout",
    "touch",
    "tr",
];

/// Stand-ins: each writes down that it was called. The metadata service is looked at as the daemon starts.
const STUBS: &[(&str, &str)] = &[
    (
        "systemctl",
        r#"echo "systemctl $*" >>"$WORK/log"
case "$*" in
"is-active --quiet lian-expiry.timer") [ -e /run/armed ] ;;
"start lian-buildkitd.service") sh "$WORK/probe" >"$WORK/at-start"; : >/run/daemon ;;
esac"#,
    ),
    ("systemd-run", r#"echo "systemd-run $*" >>"$WORK/log"; [ -z "${UNARMED:-}" ] && : >/run/armed"#),
    ("shutdown", r#"echo "shutdown $*" >>"$WORK/log"; [ -z "${UNARMED:-}" ]"#),
    ("journalctl", "true"),
    (
        "curl",
        r#"echo "curl $*" >>"$WORK/log"
while [ $# -gt 0 ]; do [ "$1" = -o ] && cp "$WORK/archive.tar.gz" "$2"; shift; done"#,
    ),
];

/// Mounts and a network as a new server has them, metadata service included; then what cloud-init does.
const MACHINE: &str = r#"set -eu
cp -a /etc "$WORK/etc" && mount --bind "$WORK/etc" /etc
for folder in /run /var/tmp /usr/local/bin /sys/fs/cgroup /workspace; do mkdir -p "$folder"; mount -t tmpfs tmpfs "$folder"; done
[ ! -d "$WORK/prepared" ] || cp "$WORK"/prepared/* /usr/local/bin/
ip link set lo up
ip netns add far
ip link add eth0 type veth peer name eth0 netns far
ip addr add 192.0.2.2/32 dev eth0
ip -n far addr add 169.254.169.254/32 dev eth0
if [ -n "${IPV6:-}" ]; then
  ip -6 addr add fe80::2/64 dev eth0 nodad
  ip -n far -6 addr add fe80::a9fe:a9fe/64 dev eth0 nodad
else for each in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 1 >"$each"; done; fi
ip link set eth0 up && ip -n far link set eth0 up
ip route add 169.254.169.254 dev eth0 && ip -n far route add 192.0.2.2 dev eth0
(cd "$WORK" && exec ip netns exec far busybox httpd -f -p 80) &
until bash -c '</dev/tcp/169.254.169.254/80' 2>/dev/null; do sleep 0.02; done
sh "$WORK/probe" >"$WORK/at-first"
PATH="$WORK/bin:/usr/local/bin"
. "$WORK/cloud-init"
kill $!
ls /usr/local/bin >"$WORK/programs"
[ ! -e /run/lian/ready ] || cp /run/lian/ready "$WORK/ready"
echo "$code" >"$WORK/code"
"#;

const PROBE: &str = r"for address in 169.254.169.254 'fe80::a9fe:a9fe%eth0'; do
  if timeout 2 bash -c '</dev/tcp/$0/80' $address 2>/dev/null; then echo open; else echo closed; fi
done
";

/// How a first boot ended.
struct Booted {
    work: tempfile::TempDir,
    config: CloudConfig,
}

impl Booted {
    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.work.path().join(file)).unwrap_or_default()
    }

    /// Nothing is ever built there, though it is on.
    #[track_caller]
    fn is_useless(&self) {
        assert_ne!(self.read("code").trim(), "0");
        assert_eq!((self.read("ready"), self.read("at-start")), (String::new(), String::new()));
        assert!(!self.read("log").contains("start lian-buildkitd"), "{}", self.read("log"));
    }

    #[track_caller]
    fn is_ready(&self) {
        assert_eq!(self.read("code").trim(), "0", "{}\n{}", self.read("log"), self.read("output"));
        assert!(!self.read("ready").is_empty());
        assert_eq!(self.read("at-first"), "open\nopen\n", "the probe finds what is there");
        assert_eq!(self.read("at-start"), "closed\nclosed\n", "steps could have read the user data");
    }
}

fn executable(path: PathBuf, script: &str) {
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("writable");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("writable");
}

fn programs(folder: &Path) {
    std::fs::create_dir_all(folder).expect("writable");
    executable(folder.join("buildkitd"), "true");
    executable(folder.join("buildctl"), "[ -e /run/daemon ]");
    executable(folder.join("buildkit-runc"), "true");
}

/// A machine.
#[derive(Clone, Copy)]
struct Case {
    prepared: bool,
    /// Whether the archive is the one whose checksum is known.
    sound: bool,
    /// The tools that it has to close the metadata service with.
    closers: &'static [&'static str],
    /// Whether timers can be set.
    armed: bool,
    ipv6: bool,
}

const PLAIN: Case = Case { prepared: false, sound: true, closers: TABLES, armed: true, ipv6: true };
const PREPARED: Case = Case { prepared: true, ..PLAIN };
const TABLES: &[&str] = &["iptables", "ip6tables"];

async fn boot(case: Case) -> Booted {
    let Case { prepared, sound, closers, armed, ipv6 } = case;
    let work = tempfile::tempdir().expect("a folder");
    let at = |name: &str| work.path().join(name);
    programs(&at(if prepared { "prepared" } else { "release/bin" }));
    let mut tar = Command::new("tar");
    tar.arg("-czf").arg(at("archive.tar.gz")).arg("-C").arg(work.path());
    assert!(tar.arg(if prepared { "prepared" } else { "release" }).status().expect("tar").success());
    let sum = Digest::of(std::fs::read(at("archive.tar.gz")).expect("an archive")).hex().to_owned();
    let sum = if sound { sum } else { sum.chars().rev().collect() };

    let cloud = Cloud::new();
    let buildkit = BuildkitRelease { url: None, sha256: [("arm64".to_owned(), sum)].into() };
    let provider = cloud.of(HcloudSettings { prepared, buildkit, ..settings() }, "ann", pace());
    provider.acquire(&request("r-1"), &LeaseRecord::default()).await.expect("a lease");
    let user_data = cloud.fake.servers().remove(0).user_data;
    let config = CloudConfig::read(&user_data).expect("cloud-init reads it");

    std::fs::create_dir(at("bin")).expect("writable");
    for tool in TOOLS.iter().chain(closers) {
        let path = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().expect("sh").stdout;
        let path = String::from_utf8(path).expect("a path");
        assert!(!path.is_empty(), "{tool} is missing: run scripts/setup.sh --test");
        symlink(path.trim(), at("bin").join(tool)).expect("writable");
    }
    for (name, script) in STUBS {
        executable(at("bin").join(name), script);
    }
    std::fs::write(at("probe"), PROBE).expect("writable");
    std::fs::write(at("cloud-init"), steps(&config, work.path())).expect("writable");
    let output = std::fs::File::create(at("output")).expect("a file");
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "sh", "-c", MACHINE]);
    command.env("WORK", work.path()).stdin(Stdio::null()).stderr(output.try_clone().expect("a file")).stdout(output);
    if !armed {
        command.env("UNARMED", "1");
    }
    if ipv6 {
        command.env("IPV6", "1");
    }
    let status = command.status().expect("unshare");
    let booted = Booted { work, config };
    assert!(status.success(), "{}", booted.read("output"));
    booted
}

/// What cloud-init does, in its order, as a script that goes on after what fails, and ends with `code`.
fn steps(config: &CloudConfig, work: &Path) -> String {
    let mut script = String::new();
    let mut run = |name: &str, commands: &[String]| {
        // cloud-init joins them to one script; each has the last one's code.
        let file = work.join(name);
        std::fs::write(&file, commands.join("\n")).expect("writable");
        script.push_str(&format!("code=0; sh '{}' || code=$?\n", file.display()));
    };
    run("bootcmd", &config.bootcmd);
    for (number, (path, content)) in config.write_files.iter().enumerate() {
        let file = work.join(format!("file-{number}"));
        std::fs::write(&file, content).expect("writable");
        run(&format!("write-{number}"), &[format!("install -D -m 0644 '{}' '{path}'", file.display())]);
    }
    run("packages", &[format!("echo 'packages {}' >>\"$WORK/log\"", config.packages.join(" "))]);
    run("runcmd", &config.runcmd);
    script
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_image_installs_what_has_the_right_checksum_and_is_closed_before_the_daemon_starts() {
    let booted = boot(PLAIN).await;
    booted.is_ready();
    let programs = booted.read("programs");
    assert_eq!(programs.split_whitespace().collect::<Vec<_>>(), ["buildctl", "buildkit-runc", "buildkitd"]);
    let log = booted.read("log");
    let first = log.lines().next().expect("something was called");
    assert!(
        first.starts_with("systemd-run ") && first.ends_with("systemctl poweroff"),
        "the end is not armed first: {log}"
    );
    let written: Vec<&str> = booted.config.write_files.iter().map(|(path, _)| path.as_str()).collect();
    assert!(written.contains(&"/etc/lian/buildkitd.toml"), "{written:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_checksum_installs_nothing() {
    let booted = boot(Case { sound: false, ..PLAIN }).await;
    booted.is_useless();
    assert_eq!(booted.read("programs"), "");
    assert!(booted.read("log").contains("curl "), "nothing was fetched");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_image_is_closed_by_what_it_has_or_never_builds() {
    boot(Case { closers: &["nft"], ..PREPARED }).await.is_ready();
    boot(PREPARED).await.is_ready();
    // Without IPv6 a route is enough.
    let routed = boot(Case { closers: &[], ipv6: false, ..PREPARED }).await;
    assert_eq!((routed.read("code").trim(), &*routed.read("at-first")), ("0", "open\nclosed\n"));
    assert_eq!(routed.read("at-start"), "closed\nclosed\n");
    for closers in [&[][..], &["iptables"], &["ip6tables"]] {
        let booted = boot(Case { closers, ..PREPARED }).await;
        booted.is_useless();
        assert!(booted.read("output").contains("cannot be closed"), "{}", booted.read("output"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_whose_end_is_not_armed_does_not_begin() {
    let booted = boot(Case { armed: false, ..PREPARED }).await;
    booted.is_useless();
    assert!(booted.read("log").contains("shutdown -P +"), "{}", booted.read("log"));
}
