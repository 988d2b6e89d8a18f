//! The cloud-init config of a runner's first boot. Not responsible for: tokens and passwords, since build steps might
//! read it.

use std::fmt::Write as _;

use super::settings::HcloudSettings;
use crate::domain::model::Fault;
use crate::domain::ports::STEP_LOGS;

/// BuildKit's official release of the tested version.
const UPSTREAM: &str =
    "https://github.com/moby/buildkit/releases/download/v0.32.2/buildkit-v0.32.2.linux-{arch}.tar.gz";

/// The API's limit on user data, bytes.
const LONGEST: usize = 32 * 1024;

/// Config of buildkitd. Its steps run in a cgroup with its own limit; the daemon runs outside of it.
const BUILDKITD_TOML: &str = r#"[grpc]
address = ["unix:///run/buildkit/buildkitd.sock"]

[worker.containerd]
enabled = false

[worker.oci]
enabled = true
defaultCgroupParent = "lian-build"
"#;

const UNIT: &str = "[Unit]
Description=BuildKit daemon of lian-build
After=network-online.target

[Service]
Environment=STEP_LOGS
ExecStart=/usr/bin/env buildkitd --config /etc/lian/buildkitd.toml
Restart=always
RestartSec=1
Delegate=yes
KillMode=mixed
LimitNOFILE=1048576
TasksMax=infinity
";

/// Says that the machine is not ready until `ready` is written. Arms the power-off at the end of the lifetime first, in
/// case nobody releases the runner. The end is counted by this machine's own clock, which may differ by hours from that
/// of whoever leased it. It is kept where a reboot finds it, and a machine made of a snapshot of this one does not.
/// bootcmd must not block, so the timer has no dependencies on later boot stages.
const ARM: &str = r#"mkdir -p /run/lian
: > /run/lian/booting
end=/var/lib/cloud/instance/lian-end
[ -d /var/lib/cloud/instance/ ] || end=/run/lian/end
[ -s "$end" ] || echo "$(( $(date +%s) + LIFETIME ))" > "$end"
read -r end < "$end"
left=$(( end - $(date +%s) ))
[ "$left" -gt 0 ] || left=1
[ "$left" -le LIFETIME ] || left=LIFETIME
systemd-run --no-block --unit=lian-expiry --on-active="${left}s" --timer-property=AccuracySec=1s \
  --timer-property=DefaultDependencies=no systemctl poweroff
"#;

/// Refuses to start a runner whose power-off is not armed.
const BEGIN: &str = r#"set -eu
mkdir -p /run/lian /workspace
systemctl is-active --quiet lian-expiry.timer || shutdown -P "+$(( (LIFETIME + 59) / 60 ))"
"#;

const INSTALL: &str = r#"work=/var/tmp/lian
rm -rf "$work" && mkdir -p "$work/out"
curl -fsSL --retry 5 --retry-all-errors --connect-timeout 10 --max-time 300 -o "$work/archive" 'URL'
echo "SHA256  $work/archive" | sha256sum -c -
tar -xf "$work/archive" -C "$work/out"
find "$work/out" -type f \( -name buildkitd -o -name buildctl -o -name '*runc' \) \
  -exec install -m 0755 -t /usr/local/bin {} +
rm -rf "$work"
"#;

/// The metadata service shows this config, including the host's private key, to any process on the machine. Steps are
/// root in the shared network, so block it for all once cloud-init has read it. If blocking fails, no build ever
/// starts. Routes cannot block link-local IPv6 addresses, which are looked up per interface.
const CLOSE: &str = r#"systemctl disable --now buildkit.service buildkitd.service 2>/dev/null || true
by_nft() {
  command -v nft >/dev/null && nft -f - <<'RULES'
table inet lian {
  chain output { type filter hook output priority -300; ip daddr 169.254.169.254 reject; ip6 daddr fe80::a9fe:a9fe reject; }
  chain forward { type filter hook forward priority -300; ip daddr 169.254.169.254 reject; ip6 daddr fe80::a9fe:a9fe reject; }
}
RULES
}
by_tables() {
  for chain in OUTPUT FORWARD; do
    iptables -w -I "$chain" -d 169.254.169.254 -j REJECT || return 1
    ip6tables -w -I "$chain" -d fe80::a9fe:a9fe -j REJECT || return 1
  done
}
by_route() {
  [ -r /proc/net/dev ] && [ -z "$(cat /proc/net/if_inet6 2>/dev/null)" ] &&
    ip route replace blackhole 169.254.169.254/32
}
by_nft || by_tables || by_route || { echo 'lian-build: the metadata service cannot be closed' >&2; exit 1; }
"#;

const END: &str = r#"group=/sys/fs/cgroup/lian-build
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  echo '+cpu +io +memory +pids' > /sys/fs/cgroup/cgroup.subtree_control || true
  mkdir -p "$group"
  total=$(sed -n 's/^MemTotal: *\([0-9]*\) kB$/\1/p' /proc/meminfo)
  echo "$(( (total - 393216) * 1024 ))" > "$group/memory.max" || true
  echo "$group" > /run/lian/cgroup
fi
systemctl reload ssh || systemctl reload sshd || true
systemctl daemon-reload
systemctl start lian-buildkitd.service
tries=0
until buildctl debug workers >/dev/null 2>&1; do
  tries=$(( tries + 1 ))
  [ "$tries" -lt 300 ] || { journalctl -u lian-buildkitd -n 20 --no-pager; exit 1; }
  sleep 0.2
done
date -u > /run/lian/ready
"#;

/// Inputs of one runner's first boot.
pub(super) struct Boot<'a> {
    /// Platform, e.g. `linux/arm64`.
    pub(super) platform: &'a str,
    /// The host's private key, OpenSSH PEM.
    pub(super) host_private: &'a str,
    /// The host's public key.
    pub(super) host_public: &'a str,
    /// How long the machine may live, in seconds.
    pub(super) lifetime: u64,
}

/// Checks that the settings define where BuildKit comes from.
pub(super) fn check(settings: &HcloudSettings) -> Result<(), Fault> {
    if settings.prepared {
        return Ok(());
    }
    match archive(settings) {
        url if !is_plain(url) => Err(no_buildkit(&format!("BuildKit cannot be fetched from `{url}`"))),
        _ if settings.buildkit.sha256.is_empty() => Err(no_buildkit("BuildKit's archive has no checksum")),
        _ => Ok(()),
    }
}

/// URL of the archive, with `{arch}` not yet replaced.
fn archive(settings: &HcloudSettings) -> &str {
    settings.buildkit.url.as_deref().unwrap_or(UPSTREAM)
}

/// The URL is placed in a shell script in quotes: reject unsafe characters.
fn is_plain(url: &str) -> bool {
    let known = url.starts_with("https://") || url.starts_with("http://");
    known && url.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\'')
}

fn no_buildkit(message: &str) -> Fault {
    Fault::configuration("lian::hcloud::no_buildkit", message).help(
        "set `providers.hcloud.buildkit.sha256` to the checksums (`sha256sum FILE`) of its release archives by \
         architecture, and `buildkit.url` where they are not to come from BuildKit's own release (`{arch}` stands for amd64 \
         or arm64); or name a snapshot that holds BuildKit in `providers.hcloud.image` and set `prepared = true`",
    )
}

/// Generates the cloud-config of a runner.
///
/// # Errors
/// `lian::hcloud::no_buildkit` if the platform's archive has no checksum; `lian::hcloud::user_data` if it is too
/// long.
pub(super) fn user_data(settings: &HcloudSettings, boot: &Boot<'_>) -> Result<String, Fault> {
    let script = script(settings, boot)?;
    let mut text = "#cloud-config\n".to_owned();
    text.push_str("ssh_deletekeys: true\nssh_keys:\n  ed25519_private: |\n");
    block(&mut text, 4, boot.host_private);
    let _ = writeln!(text, "  ed25519_public: {}", boot.host_public);
    text.push_str("disable_root: false\nssh_pwauth: false\npackage_upgrade: false\n");
    if !settings.prepared {
        text.push_str("package_update: true\npackages: [ca-certificates, curl, iptables, rsync]\n");
    }
    // Runs before sshd accepts logins: a client that finds the folder waits for the file in it.
    text.push_str("bootcmd:\n  - |\n");
    block(&mut text, 4, &ARM.replace("LIFETIME", &boot.lifetime.to_string()));
    text.push_str("write_files:\n");
    let step_logs = STEP_LOGS.map(|(name, value)| format!("{name}={value}")).join(" ");
    for (path, content) in [
        ("/etc/ssh/sshd_config.d/10-lian.conf", "MaxSessions 64\n"),
        ("/etc/lian/buildkitd.toml", BUILDKITD_TOML),
        ("/etc/systemd/system/lian-buildkitd.service", &UNIT.replace("STEP_LOGS", &step_logs)),
    ] {
        let _ = writeln!(text, "  - path: {path}\n    content: |");
        block(&mut text, 6, content);
    }
    text.push_str("runcmd:\n  - |\n");
    block(&mut text, 4, &script);
    if text.len() > LONGEST {
        let message = format!("the runner's first-boot data is {} bytes, over 32 KiB", text.len());
        return Err(
            Fault::configuration("lian::hcloud::user_data", message).help("shorten `providers.hcloud.buildkit.url`")
        );
    }
    Ok(text)
}

fn script(settings: &HcloudSettings, boot: &Boot<'_>) -> Result<String, Fault> {
    let mut script = BEGIN.replace("LIFETIME", &boot.lifetime.to_string());
    if !settings.prepared {
        let architecture = boot.platform.rsplit('/').next().unwrap_or("");
        let sum = settings.buildkit.sha256.get(architecture);
        let sum = sum.filter(|sum| sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let sum = sum.ok_or_else(|| no_buildkit(&format!("BuildKit's archive for {architecture} has no checksum")))?;
        let url = archive(settings).replace("{arch}", architecture);
        script.push_str(&INSTALL.replace("URL", &url).replace("SHA256", sum));
    }
    script.push_str(CLOSE);
    script.push_str(END);
    Ok(script)
}

/// Appends a literal YAML block.
fn block(text: &mut String, indent: usize, content: &str) {
    for line in content.trim_end().lines() {
        let _ = if line.is_empty() { writeln!(text) } else { writeln!(text, "{:indent$}{line}", "") };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::adapters::providers::hcloud::BuildkitRelease;
    use crate::domain::model::FaultKind;

    fn settings(prepared: bool) -> HcloudSettings {
        let url = Some("https://example.org/buildkit-v0.32.2.linux-{arch}.tar.gz".to_owned());
        let sha256 = BTreeMap::from([("arm64".to_owned(), "a".repeat(64))]);
        HcloudSettings { prepared, buildkit: BuildkitRelease { url, sha256 }, ..Default::default() }
    }

    fn boot(platform: &str) -> Boot<'_> {
        let host_private = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\nBBBB\n-----END OPENSSH PRIVATE KEY-----\n";
        Boot { platform, host_private, host_public: "ssh-ed25519 AAAAC3", lifetime: 7200 }
    }

    #[test]
    fn a_plain_image_is_made_ready() {
        insta::assert_snapshot!(user_data(&settings(false), &boot("linux/arm64")).expect("text"));
    }

    #[test]
    fn a_prepared_image_only_starts() {
        insta::assert_snapshot!(user_data(&settings(true), &boot("linux/amd64")).expect("text"));
    }

    /// Runs what arms the power-off on a machine whose clock shows `now`; answers after how long it will be off.
    fn armed(root: &std::path::Path, now: u64) -> u64 {
        let bin = root.join("bin");
        std::fs::create_dir_all(root.join("instance")).expect("a folder");
        std::fs::create_dir_all(&bin).expect("a folder");
        for (name, text) in
            [("date", format!("echo {now}")), ("systemd-run", "echo \"$*\" >\"$ROOT/armed\"".to_owned())]
        {
            std::fs::write(bin.join(name), format!("#!/bin/sh\n{text}\n")).expect("a stand-in");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(bin.join(name), mode).expect("executable");
        }
        let here = root.display().to_string();
        let script = ARM.replace("LIFETIME", "7200").replace("/run/lian", &format!("{here}/run"));
        let script = script.replace("/var/lib/cloud/instance", &format!("{here}/instance"));
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").expect("a path"));
        let mut command = std::process::Command::new("sh");
        let ran = command.args(["-euc", &script]).env("PATH", path).env("ROOT", root).output().expect("a shell");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let told = std::fs::read_to_string(root.join("armed")).expect("it was armed");
        let after = told.split_once("--on-active=").and_then(|(_, rest)| rest.split_once("s "));
        after.expect("a time").0.parse().expect("seconds")
    }

    #[test]
    fn a_machine_lives_as_long_as_it_was_leased_for_whatever_any_clock_shows() {
        let (root, hour) = (tempfile::tempdir().expect("a folder"), 3600);
        // The first boot; a reboot half an hour later; clocks that were set on and back between boots.
        let boots = [(100 * hour, 7200), (100 * hour + 1800, 5400), (110 * hour, 1), (90 * hour, 7200)];
        for (now, left) in boots {
            assert_eq!(armed(root.path(), now), left, "at {now}");
        }
    }

    #[test]
    fn the_script_is_one() {
        for prepared in [true, false] {
            let script = script(&settings(prepared), &boot("linux/arm64")).expect("a script");
            let ran = std::process::Command::new("sh").args(["-n", "-c", &script]).output().expect("a shell");
            assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        }
    }

    #[test]
    fn without_a_checked_buildkit_nothing_starts() {
        let mut unchecked = settings(false);
        unchecked.buildkit.sha256.clear();
        let mut odd = settings(false);
        odd.buildkit.url = Some("https://x/'; reboot; '".to_owned());
        for settings in [unchecked, odd] {
            let fault = check(&settings).expect_err("no buildkit");
            assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Unavailable, "lian::hcloud::no_buildkit"));
        }
        check(&settings(false)).expect("enough");
        let mut upstream = settings(false);
        upstream.buildkit.url = None;
        check(&upstream).expect("BuildKit's own release");
        let text = user_data(&upstream, &boot("linux/arm64")).expect("text");
        assert!(text.contains("/v0.32.2/buildkit-v0.32.2.linux-arm64.tar.gz'"), "{text}");
        let fault = user_data(&settings(false), &boot("linux/amd64")).expect_err("no checksum for amd64");
        assert!(fault.message.contains("amd64"), "{}", fault.message);
    }
}
