//! What a runner's kernel counted. Refuses: judging it.

use async_trait::async_trait;

use super::link::Link;
use crate::model::{Fault, FaultKind};
use crate::ports::{Counters, Usage};

/// A limit within so many bytes of the peak was reached.
const MARGIN: u64 = 1 << 20;

/// Prints `kills failures peak limit daemon kernel`, from the cgroup that holds the builds' steps: `/run/lian/cgroup` names it
/// where the runner was made for lian-build. Under cgroup v1 a group does not count the kills of those below it; the
/// kernel's own count does, and the limit's failures, or the peak at the limit, say that they were of this group.
const SCRIPT: &str = r#"
for d in $(cat /run/lian/cgroup 2>/dev/null) /sys/fs/cgroup/lian-build /sys/fs/cgroup/memory/buildkit /sys/fs/cgroup/buildkit \
  /sys/fs/cgroup/memory /sys/fs/cgroup; do
  if [ -r "$d/memory.events" ]; then
    k=$(sed -n 's/^oom_kill //p' "$d/memory.events"); f=$k
    p=$(cat "$d/memory.peak" 2>/dev/null || cat "$d/memory.current"); l=$(cat "$d/memory.max"); break
  elif [ -r "$d/memory.failcnt" ]; then
    k=$(sed -n 's/^oom_kill //p' /proc/vmstat); f=$(cat "$d/memory.failcnt")
    f=$((f + $(cat "$d/memory.memsw.failcnt" 2>/dev/null || echo 0)))
    p=$(cat "$d/memory.max_usage_in_bytes"); l=$(cat "$d/memory.limit_in_bytes"); break
  fi
done
s=$(stat -c %Y /run/buildkit/buildkitd.sock 2>/dev/null)
[ "$l" = max ] && l=$(( $(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo) * 1024 ))
v=$(sed -n 's/^oom_kill //p' /proc/vmstat)
echo "${k:-0} ${f:-0} ${p:-0} ${l:-0} ${s:-0} ${v:-0}"
"#;

#[async_trait]
impl Counters for Link {
    /// A kill counts only where the limit of the builds' own cgroup was hit since the last look as well. Faults:
    /// `lian::remote::link_lost`; `lian::remote::usage` where the answer is not understood.
    async fn usage(&self) -> Result<Usage, Fault> {
        let ran = self.run(SCRIPT).await?;
        let read = parse(&ran.stdout).ok_or_else(|| {
            let message = format!("the memory counters of {} are not understood", self.name());
            Fault::new(FaultKind::Infrastructure, "lian::remote::usage", message)
                .help("out-of-memory kills of this runner are told as failed builds")
        })?;
        let mut counter = self.kills.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let oom_kills = counter.add(read.kills, read.failures, read.peak + MARGIN >= read.limit);
        Ok(Usage {
            oom_kills,
            kernel_kills: read.kernel,
            memory_peak: read.peak,
            memory_limit: read.limit,
            daemon_starts: read.daemon,
        })
    }
}

/// One look at the counters.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    kills: u64,
    failures: u64,
    peak: u64,
    limit: u64,
    daemon: u64,
    kernel: u64,
}

fn parse(text: &str) -> Option<Read> {
    let numbers: Vec<u64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    let [kills, failures, peak, limit, daemon, kernel] = numbers[..] else { return None };
    Some(Read { kills, failures, peak, limit, daemon, kernel })
}

/// Kills that were of this runner's builds.
#[derive(Debug, Default)]
pub(super) struct Kills {
    last: Option<(u64, u64)>,
    counted: u64,
}

impl Kills {
    fn add(&mut self, kills: u64, failures: u64, full: bool) -> u64 {
        if let Some((kills_before, failures_before)) = self.last.replace((kills, failures))
            && (full || failures > failures_before)
        {
            self.counted += kills.saturating_sub(kills_before);
        }
        self.counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_counts_where_both_counters_moved() {
        let mut kills = Kills::default();
        assert_eq!(kills.add(7, 100, false), 0, "what was before is nobody's");
        assert_eq!(kills.add(8, 100, false), 0, "somebody else's kill");
        assert_eq!(kills.add(8, 150, false), 0, "the limit was hit by a cache, which gave way");
        assert_eq!(kills.add(10, 151, false), 2);
        assert_eq!(kills.add(10, 151, true), 2);
        assert_eq!(kills.add(11, 151, true), 3, "failures are not counted where swap is limited too");
    }

    #[test]
    fn reads_six_numbers_and_nothing_else() {
        let read = Read { kills: 1, failures: 2, peak: 3, limit: 4, daemon: 5, kernel: 6 };
        assert_eq!(parse("1 2 3 4 5 6\n"), Some(read));
        assert_eq!((parse(""), parse("1 2 3 4 5"), parse("1 2 3 4 5 x")), (None, None, None));
    }
}
