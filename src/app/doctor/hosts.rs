//! Logs in to a workflow's fixed hosts and looks for all that a build needs there. Not responsible for: leasing them.

use std::time::Duration;

use super::finding::{Finding, State};
use super::services::refused;
use crate::adapters::buildkit::{Binaries, Daemon, others_only};
use crate::adapters::transport::Transport;
use crate::adapters::transport::ssh::SshConnection;
use crate::app::Error;
use crate::app::runners::provider_context;
use crate::app::session::Session;
use crate::domain::base::{Platform, human_bytes};
use crate::domain::model::{ContextTransfer, Fault, Offer};
use crate::domain::ports::SshTarget;

/// How long a host may take to let us in.
const LOGIN: Duration = Duration::from_secs(10);
/// How long a host may take for everything.
const ALL: Duration = Duration::from_secs(40);
/// Free space on a host below which builds are likely to fail.
const LOW_BYTES: u64 = 5_000_000_000;

/// Looks for programs, rights and resources; prints a word and a value a line. It takes nothing and leaves nothing.
const LOOK: &str = r#"
for p in flock timeout rsync buildctl; do command -v $p >/dev/null && echo "has $p"; done
for f in /run/lian-build.lock /run/lian-build /var/lib/lian-build /workspace; do
  e=$f; while ! [ -e "$e" ]; do e=${e%/*}; e=${e:-/}; done
  [ -w "$e" ] || echo "denied $f"
done
s=/run/buildkit/buildkitd.sock
[ -S $s ] && { [ -w $s ] && echo "socket open" || echo "socket denied"; }
[ ! -e /run/lian/booting ] || [ -e /run/lian/ready ] || echo "booting yes"
d=/var/lib; [ -d /var/lib/buildkit ] && d=/var/lib/buildkit
echo "free $(df -Pk $d | awk 'END {print $4}')"
echo "cpu $(nproc 2>/dev/null)"; echo "memory $(awk '/^MemTotal/ {print $2}' /proc/meminfo)"
for g in $(cat /run/lian/cgroup 2>/dev/null) /sys/fs/cgroup/lian-build /sys/fs/cgroup/memory/lian-build; do
  [ -d "$g" ] && { echo "cgroup $g"; break; }
done
exit 0
"#;

/// What [`LOOK`] printed.
struct Seen(String);

impl Seen {
    fn values<'a>(&'a self, word: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.lines().filter_map(move |line| line.strip_prefix(word)?.strip_prefix(' '))
    }

    fn has(&self, program: &str) -> bool {
        self.values("has").any(|found| found == program)
    }

    fn number(&self, word: &str) -> u64 {
        self.values(word).find_map(|value| value.trim().parse().ok()).unwrap_or(0)
    }
}

/// One finding a host, all asked at once.
pub(super) fn all(session: &Session) -> Result<Vec<Finding>, Error> {
    let config = session.config();
    let (provider, login) = match (provider_context::provider(config), config.descriptor()?.login) {
        (Ok(provider), login) => (provider, login.patience.unwrap_or(LOGIN)),
        // Its own finding says what is wrong.
        (Err(_), _) => return Ok(Vec::new()),
    };
    let rsync = *config.context_transfer == ContextTransfer::Rsync;
    session.wait(async {
        let looks = provider.hosts().into_iter().map(|(target, offer)| async move {
            let name = target.address.clone();
            match tokio::time::timeout(ALL, look(&target, login, rsync)).await {
                Ok(Ok(seen)) => judged(&name, &seen, &offer, rsync),
                Ok(Err(fault)) => refused(&name, &fault),
                Err(_) => {
                    let told = format!("a command there does not end within {} s", ALL.as_secs());
                    Finding::missing(name, told, "see what hangs there: log in by hand")
                }
            }
        });
        futures_util::future::join_all(looks).await
    })
}

/// Logs in and looks. The daemon's own answer is added as `daemon VERSION` or `silent WHY`.
async fn look(target: &SshTarget, login: Duration, rsync: bool) -> Result<Seen, Fault> {
    let connection = SshConnection::connect(target, "doctor", LOGIN, login.min(LOGIN)).await?;
    let mut seen = connection.exec(LOOK, b"").await?.stdout;
    if !seen.contains("socket open") {
        return Ok(Seen(seen));
    }
    // Without a buildctl here the one there asks, if it has one.
    let answer = match Binaries::find() {
        Ok(binaries) => {
            let address = connection.daemon_address().await?;
            let platforms = Daemon::platforms_at(&binaries, &address).await;
            for platform in platforms.iter().flatten() {
                seen.push_str(&format!("\nplatform {platform}"));
            }
            match platforms {
                Ok(_) => Daemon::version_at(&binaries, &address).await,
                Err(why) => Err(why),
            }
        }
        Err(_) if rsync || seen.contains("has buildctl") => {
            let asked = connection.exec("buildctl --timeout 5 debug workers >/dev/null", b"").await?;
            if asked.code == 0 { Ok(String::new()) } else { Err(asked.stderr.trim().to_owned()) }
        }
        Err(_) => Ok(String::new()),
    };
    seen.push_str(&match answer {
        Ok(version) => format!("\ndaemon {version}\n"),
        Err(why) => format!("\nsilent {}\n", why.lines().next_back().unwrap_or_default()),
    });
    Ok(Seen(seen))
}

/// A host's finding: the first fault that keeps builds from it, else what it has.
fn judged(name: &str, seen: &Seen, offer: &Offer, rsync: bool) -> Finding {
    if let Some((told, mend)) = fault(seen, rsync) {
        return Finding::missing(name, told, mend);
    }
    let platforms: Vec<Platform> = seen.values("platform").map(Platform::new).collect();
    if let Some(found) = others_only(&platforms, &offer.platform) {
        let told = format!("its buildkitd builds for {found} only, and the workflow says {}", offer.platform);
        return Finding::missing(name, told, "say its real `platform`, or install emulation there (binfmt)");
    }
    let (free, cpu) = (seen.number("free") * 1024, seen.number("cpu"));
    let memory_gb = (seen.number("memory") * 1024 + 500_000_000) / 1_000_000_000;
    let version = seen.values("daemon").next().unwrap_or_default();
    let mut parts = vec!["login".to_owned(), "host key".to_owned(), format!("buildkitd {version}").trim().to_owned()];
    parts.extend(["rsync", "flock"].into_iter().filter(|program| seen.has(program)).map(str::to_owned));
    parts.extend([format!("{} free", human_bytes(free)), format!("{cpu} CPU"), format!("{memory_gb} GB")]);
    let mut finding = Finding::well(name, parts.join(", "));
    let said = format!("`cpu = {}, memory_gb = {}`", offer.cpu, offer.memory_gb);
    finding.mend = if u64::from(offer.cpu) > cpu || u64::from(offer.memory_gb) > memory_gb {
        Some(format!("the workflow says {said}: it has less than that"))
    } else if seen.values("cgroup").next().is_none() {
        Some("no cgroup holds its steps alone: lack of memory is told by the whole machine's counters".to_owned())
    } else {
        None
    };
    if finding.mend.is_some() {
        finding.state = State::Advice;
    }
    finding
}

/// The first fault that keeps builds from a host, and the next action.
fn fault(seen: &Seen, rsync: bool) -> Option<(String, &'static str)> {
    let wanted = if rsync { &["flock", "timeout", "rsync", "buildctl"][..] } else { &["flock", "timeout"] };
    let absent: Vec<&str> = wanted.iter().copied().filter(|program| !seen.has(program)).collect();
    let denied: Vec<&str> = seen.values("denied").collect();
    let free = seen.number("free") * 1024;
    Some(match seen.values("socket").next() {
        _ if !absent.is_empty() => {
            (format!("it lacks {}", absent.join(", ")), "install it there (Debian: apt-get install util-linux rsync)")
        }
        _ if !denied.is_empty() => (
            format!("its user may not write {}", denied.join(", ")),
            "log in as root, or give these to the user of the workflow",
        ),
        None => (
            "there is no BuildKit socket, /run/buildkit/buildkitd.sock".to_owned(),
            "start buildkitd there (systemctl start buildkit)",
        ),
        Some("denied") => (
            "its user may not open /run/buildkit/buildkitd.sock".to_owned(),
            "log in as root, or give the socket to the user's group (buildkitd --group)",
        ),
        _ if seen.values("silent").next().is_some() => {
            let why = seen.values("silent").next().unwrap_or_default();
            let told = format!("the BuildKit socket is there, and nobody answers it ({why})");
            (told, "restart buildkitd there (systemctl restart buildkit)")
        }
        _ if seen.values("booting").next().is_some() => (
            "its first boot is not over: there is /run/lian/booting, and no /run/lian/ready".to_owned(),
            "wait for its boot; on a host that you made by hand: rm /run/lian/booting",
        ),
        _ if free < LOW_BYTES => (
            format!("{} free on the disk of its buildkitd", human_bytes(free)),
            "make room there: buildctl prune --keep-storage 2000",
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "has flock\nhas timeout\nhas rsync\nhas buildctl\nsocket open\nfree 53710000\ncpu 8\n\
                         memory 16000000\ncgroup /sys/fs/cgroup/lian-build\ndaemon v0.32.2\n";

    fn offer(cpu: u32) -> Offer {
        Offer { runner_type: "h".into(), cpu, memory_gb: 16, platform: "linux/amd64".into(), price: None }
    }

    #[test]
    fn a_sound_host_is_told_on_one_line_and_one_that_is_smaller_than_said_with_advice() {
        let finding = judged("h", &Seen(SOUND.to_owned()), &offer(8), true);
        assert_eq!(finding.told, "login, host key, buildkitd v0.32.2, rsync, flock, 55.0 GB free, 8 CPU, 16 GB");
        assert_eq!((finding.state, finding.mend), (State::Well, None));
        let finding = judged("h", &Seen(SOUND.to_owned()), &offer(16), true);
        assert_eq!(finding.state, State::Advice);
        assert!(finding.mend.expect("advice").contains("`cpu = 16, memory_gb = 16`"));
    }

    #[test]
    fn each_fault_of_a_host_is_told_apart() {
        let told = |from: &str, to: &str| {
            let finding = judged("h", &Seen(SOUND.replace(from, to)), &offer(8), true);
            assert_eq!(finding.state, State::Missing, "{from}: {}", finding.told);
            format!("{} | {}", finding.told, finding.mend.expect("a way out"))
        };
        assert!(told("has rsync\n", "").starts_with("it lacks rsync |"));
        assert!(told("socket open", "").contains("no BuildKit socket"));
        assert!(told("socket open", "socket denied").contains("may not open"));
        assert!(told("daemon v0.32.2", "silent EOF").contains("nobody answers it (EOF)"));
        assert!(told("cpu 8", "booting yes\ncpu 8").contains("/run/lian/ready"));
        assert!(told("free 53710000", "free 1000").contains("1.0 MB free"));
        assert!(told("cpu 8", "denied /workspace\ncpu 8").contains("may not write /workspace"));
        let session = judged("h", &Seen(SOUND.replace("has rsync\n", "")), &offer(8), false);
        assert_eq!(session.state, State::Well, "only 'rsync needs it");
    }
}
