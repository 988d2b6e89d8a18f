//! Holds a runner for one connection: a guard process there takes the runner's lock, reads a heartbeat, and cleans up
//! when the heartbeat ends. Not responsible for: choosing runners.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use super::layout::{DISK, PRIVATE, WORKSPACE};
use crate::adapters::transport::{Problem, Readiness, Transport};
use crate::domain::model::{Fault, FaultClass, FaultKind};
use crate::domain::ports::{Held, Holder};
use crate::system::exec::Process;
use crate::system::shell::quoted;

/// Seconds without a heartbeat after which the runner treats the connection as lost and ends its work. Long enough
/// for a suspended process (Ctrl-Z) and a stalled link; see docs/providers/ssh.md.
const SILENCE: u64 = 50;
/// Interval of the heartbeat.
const BEAT: Duration = Duration::from_secs(4);
/// The lock file on a runner.
const LOCK: &str = "/run/lian-build.lock";
/// Its folder.
const RUN: &str = "/run";
/// Lock attempts per second.
const TRIES_A_SECOND: u64 = 5;
/// Lock attempts to wait for the previous holder's cleanup.
const CLEANING: u64 = 2 * TRIES_A_SECOND;
/// Maximum bytes to read of a guard's response.
const ANSWER: u64 = 4096;

/// Kills remaining build steps within 5 s, because a step outlives its daemon. Looks only at a cgroup for steps: the
/// one in the runner's `/run/lian/cgroup`, or the usual ones; never the whole machine, nor a group with the daemon.
/// If the named group is gone, so are its steps; other groups are not tried.
const END_STEPS: &str = r#"
end_steps() {
  g=$(cat /run/lian/cgroup 2>/dev/null)
  for d in ${g:-/sys/fs/cgroup/lian-build /sys/fs/cgroup/memory/lian-build /sys/fs/cgroup/memory/buildkit \
    /sys/fs/cgroup/buildkit}; do [ -d "$d" ] && break; d=; done
  case "$d" in ''|/sys/fs/cgroup|/sys/fs/cgroup/memory) return 0;; esac
  n=0
  while [ $n -lt 50 ]; do
    p=$(find "$d" -name cgroup.procs -exec cat {} + 2>/dev/null | grep -vx 0)
    [ -n "$p" ] || return 0
    for q in $p; do [ "$(cat /proc/$q/comm 2>/dev/null)" = buildkitd ] && return 0; done
    [ -w "$d/cgroup.kill" ] && echo 1 >"$d/cgroup.kill"
    kill -9 $p 2>/dev/null
    n=$((n + 1)); sleep 0.1
  done
}
"#;

/// Takes the lock, writes down who holds it, cleans the runner and prints `taken`. Runs until the heartbeat stops; on timeout kills its parent,
/// the sshd session, which survives a silent client. (In a container the parent is outside and shows as 0.) Waits
/// until buildctl's wrapper, which also ends with the connection, unlocks `building`. Then cleans up and releases the
/// lock last.
fn script(tries: u64, holder: &Holder) -> String {
    let holder = quoted(&serde_json::to_string(holder).expect("invariant: a holder is plain data"));
    format!(
        r#"{END_STEPS}
command -v flock >/dev/null || {{ echo no_flock; exit 1; }}
true >>{LOCK} || {{ echo denied; exit 1; }}
exec 9>>{LOCK}
n=0; until flock -n 9; do n=$((n + 1)); [ $n -lt {tries} ] || {{ echo busy; exit 1; }}; sleep 0.2; done
printf '%s\n%s\n' "$(date +%s)" {holder} 2>/dev/null >{LOCK}
end_steps
rm -rf {PRIVATE}; find {DISK} -mindepth 1 -delete 2>/dev/null
mkdir -p -m 700 {PRIVATE} && exec 8>>{PRIVATE}/building || {{ echo denied; exit 1; }}
echo taken; exec 2>/dev/null
while heard=$(timeout {SILENCE} head -c 1 8>&- 9>&-); code=$?; [ -n "$heard" ]; do :; done
[ $code = 0 ] || [ $PPID -le 1 ] || kill $PPID
n=0; until flock -n 8 || [ $n -ge 100 ]; do n=$((n + 1)); sleep 0.1; done
end_steps
rm -rf {PRIVATE}; find {WORKSPACE} {DISK} -mindepth 1 -delete
: >{LOCK}
exit 0
"#
    )
}

/// A held runner. Dropping it stops the heartbeat and so releases the runner.
pub(super) struct Guard {
    beat: tokio::task::JoinHandle<()>,
}

impl Guard {
    /// Whether the guard on the runner has ended, so that the runner is no longer held.
    pub(super) fn has_ended(&self) -> bool {
        self.beat.is_finished()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.beat.abort();
    }
}

/// Takes the runner for this connection and cleans it; waits while another connection holds it.
///
/// # Errors
/// `lian::remote::busy` if it stays in use; `lian::remote::denied` and `lian::remote::no_flock` if it cannot be held;
/// [`Transport::lost`].
pub(super) async fn hold(transport: &dyn Transport, holder: &Holder, within: Duration) -> Result<Guard, Fault> {
    let script = script(within.as_secs().max(1) * TRIES_A_SECOND, holder);
    let Process { stdin, stdout, mut stderr, end } = transport.start(&script).await?;
    let mut answer = String::new();
    let mut stdout = BufReader::new(stdout.take(ANSWER));
    let _ = stdout.read_line(&mut answer).await;
    if answer.trim() != "taken" {
        let mut words = String::new();
        let _ = (&mut stderr).take(ANSWER).read_to_string(&mut words).await;
        return Err(not_held(transport, answer.trim(), words.trim()));
    }
    let beat = tokio::spawn(async move {
        tokio::select! {
            () = heartbeat(stdin) => {}
            _ = end => {}
        }
    });
    Ok(Guard { beat })
}

/// Sends the heartbeat; ends when the guard no longer reads it.
async fn heartbeat(mut stdin: impl tokio::io::AsyncWrite + Unpin) {
    while stdin.write_all(b".").await.is_ok() && stdin.flush().await.is_ok() {
        tokio::time::sleep(BEAT).await;
    }
}

/// Who holds the runner; `None` if it can be taken. Waits for a cleanup in progress. What the lock file says counts only
/// while the lock is held.
///
/// # Errors
/// `lian::remote::denied` and `lian::remote::no_flock` if it can never be held; [`Transport::lost`].
pub async fn held(transport: &dyn Transport) -> Result<Option<Held>, Fault> {
    let script = format!(
        "command -v flock >/dev/null || {{ echo no_flock; exit; }}; \
         if [ -e {LOCK} ]; then [ -r {LOCK} ] && [ -w {LOCK} ]; else [ -w {RUN} ]; fi || {{ echo denied; exit; }}; \
         [ -e {LOCK} ] || {{ echo free; exit; }}; exec 9<{LOCK}; n=0; \
         until flock -s -n 9; do n=$((n + 1)); [ $n -lt {CLEANING} ] || \
         {{ echo held; date +%s; head -c {ANSWER} {LOCK}; exit; }}; sleep 0.2; done; echo free"
    );
    let output = transport.exec(&script, b"").await?;
    let (word, rest) = output.stdout.split_once('\n').unwrap_or((&output.stdout, ""));
    match word.trim() {
        "free" => Ok(None),
        "held" => {
            let (now, text) = rest.split_once('\n').unwrap_or((rest, ""));
            Ok(Some(Held::parse(now, text)))
        }
        known @ ("denied" | "no_flock") => Err(not_held(transport, known, output.stderr.trim())),
        // It ran none of this: a look tells why.
        other => Err(match transport.look().await? {
            missing @ Readiness::NoShell(_) => transport.explain(Problem::NotReady(Duration::ZERO, missing)).await,
            _ => not_held(transport, other, output.stderr.trim()),
        }),
    }
}

/// The fault for a runner that is not held, from the word that its guard printed.
fn not_held(transport: &dyn Transport, word: &str, words: &str) -> Fault {
    let name = transport.name();
    let (class, code, what, help) = match word {
        "busy" => {
            let help = "wait for the other run, or give the workflow more hosts";
            (FaultClass::Infrastructure, "lian::remote::busy", "is in use by another lian-build", help)
        }
        "denied" => {
            let help = "log in as root, or let the user write /run/lian-build, /run/lian-build.lock and /workspace";
            (FaultClass::Denied, "lian::remote::denied", "cannot be reserved by its user", help)
        }
        "no_flock" => {
            let help = "install it there: it belongs to util-linux";
            (FaultClass::Unavailable, "lian::remote::no_flock", "has no `flock`", help)
        }
        _ if words.is_empty() => return transport.lost("the runner's guard ended without a message"),
        _ => return transport.lost(words),
    };
    let kind = if class.is_refusal() { FaultKind::Unavailable } else { FaultKind::Infrastructure };
    let mut fault = Fault::new(kind, code, format!("{name} {what}")).with_class(class);
    fault.evidence = Some(words.to_owned()).filter(|words| !words.is_empty());
    fault.help(help)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, Write as _};
    use std::process::{Command, Stdio};

    use super::*;

    /// The guard in a local shell, with a folder of its own.
    fn guard(folder: &std::path::Path, silence: u64, path: Option<&str>) -> std::process::Child {
        let root = folder.display();
        // All paths in the script begin with one of these.
        let script = ["/run/lian", "/var/lib/lian", "/sys/fs/cgroup", WORKSPACE]
            .iter()
            .fold(script(1, &Holder::default()), |script, place| script.replace(place, &format!("{root}{place}")));
        let script = script.replace(&format!("timeout {SILENCE}"), &format!("timeout {silence}"));
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(path) = path {
            command.env("PATH", path);
        }
        command.spawn().expect("a shell")
    }

    fn word(child: &mut std::process::Child) -> String {
        let mut line = String::new();
        std::io::BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("readable");
        line.trim().to_owned()
    }

    #[test]
    fn a_runner_says_why_it_cannot_be_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        // `run` does not exist, so nothing can be written there.
        let mut denied = guard(folder.path(), 50, None);
        assert_eq!(word(&mut denied), "denied");
        assert!(!denied.wait_with_output().expect("it ends").stderr.is_empty(), "no evidence");
        std::fs::create_dir(folder.path().join("run")).expect("a folder");
        assert_eq!(word(&mut guard(folder.path(), 50, Some("/nowhere"))), "no_flock");
        let mut first = guard(folder.path(), 50, None);
        assert_eq!(word(&mut first), "taken");
        assert_eq!(word(&mut guard(folder.path(), 50, None)), "busy");
        drop(first.stdin.take());
        first.wait().expect("it ends");
        assert_eq!(word(&mut guard(folder.path(), 50, None)), "taken");
    }

    #[test]
    fn a_guard_whose_connection_ends_cleans_after_buildctl_and_kills_nobody() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(folder.path().join("run")).expect("a folder");
        let mut child = guard(folder.path(), 50, None);
        assert_eq!(word(&mut child), "taken");
        let private = folder.path().join("run/lian-build");
        let building = std::fs::File::open(private.join("building")).expect("the wrapper's lock");
        rustix::fs::flock(&building, rustix::fs::FlockOperation::LockShared).expect("locked");
        child.stdin.take().expect("piped").write_all(b"..").expect("it hears");
        assert!(child.try_wait().expect("a status").is_none() && private.exists(), "it did not wait for buildctl");
        drop(building);
        // If the guard killed its parent, it would kill this test.
        assert!(child.wait().expect("it ends").success());
        assert!(!private.exists());
    }
}
