//! Looks whether a shared runner has what every build needs there, before it is leased: programs, space, sessions. Not
//! responsible for: its daemon (see `readiness`), and who holds it (see `hold`).

use super::layout::{DISK, PRIVATE, WORKSPACE};
use crate::adapters::transport::Transport;
use crate::domain::base::human_bytes;
use crate::domain::model::{Fault, FaultKind};

/// A disk with less space than this is full: not even a build's small files fit.
const FULL: u64 = 1 << 20;
/// How many commands run on a runner at once, beside the one that looks: the guard, the build, the counters, and a copy.
const AT_ONCE: usize = 4;

/// Prints `lacks PROGRAM` and `free KIB FOLDER`.
fn script() -> String {
    format!(
        "for p in timeout rsync buildctl; do command -v $p >/dev/null || echo \"lacks $p\"; done; \
         for d in {PRIVATE} {DISK} {WORKSPACE} /var/lib/buildkit; do e=$d; \
         while ! [ -e \"$e\" ]; do e=${{e%/*}}; e=${{e:-/}}; done; \
         echo \"free $(df -Pk \"$e\" | awk 'END {{print $4}}') $d\"; done"
    )
}

/// Whether builds can run there. `copied`: contexts are copied there, and buildctl runs there.
///
/// # Errors
/// `lian::remote::no_timeout`, `…::no_rsync`, `…::no_buildctl`, `…::disk_full`, `…::sessions`; [`Transport::lost`].
pub async fn fit(transport: &dyn Transport, copied: bool) -> Result<(), Fault> {
    // Each of these waits for its input, and ends when it is dropped.
    let others = futures_util::future::join_all((0..AT_ONCE).map(|_| transport.start("exec cat"))).await;
    let _others = others.into_iter().collect::<Result<Vec<_>, _>>()?;
    let output = transport.exec(&script(), b"").await?;
    fault(transport.name(), &output.stdout, copied).map_or(Ok(()), Err)
}

/// The first thing that keeps builds from a runner, out of what [`script`] printed.
fn fault(name: &str, printed: &str, copied: bool) -> Option<Fault> {
    let lacks = |program: &str| printed.lines().any(|line| line == format!("lacks {program}"));
    let told = |code: &str, what: String| Fault::new(FaultKind::Unavailable, code, format!("{name} {what}"));
    let session = "or set `runners.context_transfer = 'session`";
    if lacks("timeout") {
        let fault = told("lian::remote::no_timeout", "has no `timeout`".to_owned());
        return Some(fault.help("install it there: it belongs to coreutils"));
    }
    if copied && lacks("rsync") {
        let fault = told("lian::remote::no_rsync", "has no rsync".to_owned());
        return Some(fault.help(format!("install rsync there, {session}")));
    }
    if copied && lacks("buildctl") {
        let fault = told("lian::remote::no_buildctl", "has no buildctl".to_owned());
        return Some(fault.help(format!("install it there, beside buildkitd, {session}")));
    }
    let free = |line: &str| {
        let (kib, folder) = line.strip_prefix("free ")?.split_once(' ')?;
        Some((kib.parse::<u64>().ok()? * 1024, folder.to_owned()))
    };
    let (left, folder) = printed.lines().filter_map(free).find(|(left, _)| *left < FULL)?;
    let fault = told("lian::remote::disk_full", format!("has a full disk: {} free for {folder}", human_bytes(left)));
    Some(fault.help("make room there (`buildctl prune`), and see what else fills it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_builds_from_a_runner_is_told_apart() {
        let code = |printed: &str, copied| fault("h", printed, copied).map(|fault| fault.code);
        let room = "free 2000 /run/lian-build\nfree 900000 /workspace\n";
        assert_eq!(code(room, true), None);
        assert_eq!(code(&format!("lacks rsync\nlacks buildctl\n{room}"), false), None);
        assert_eq!(code(&format!("lacks rsync\n{room}"), true).as_deref(), Some("lian::remote::no_rsync"));
        assert_eq!(code(&format!("lacks buildctl\n{room}"), true).as_deref(), Some("lian::remote::no_buildctl"));
        assert_eq!(code(&format!("lacks timeout\n{room}"), false).as_deref(), Some("lian::remote::no_timeout"));
        let full = fault("h", &format!("{room}free 3 /var/lib/buildkit\n"), false).expect("it is full");
        assert_eq!(full.message, "h has a full disk: 3.1 kB free for /var/lib/buildkit");
        // A `df` that says nothing says nothing of the disk.
        assert_eq!(code("free  /workspace\nfree - /run\n", true), None);
    }
}
