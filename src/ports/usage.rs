//! What a runner's kernel counted, and how a shell there is asked for it. Refuses: running the shell.

use serde::{Deserialize, Serialize};

/// What a runner's kernel counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processes of the builds that the kernel killed, or allocations it refused, for want of memory; ever growing.
    pub oom_kills: u64,
    /// Processes that the kernel of the whole machine killed for want of memory; ever growing.
    pub kernel_kills: u64,
    /// Bytes of memory that builds have used at most.
    pub memory_peak: u64,
    /// Bytes of memory that builds use now, caches aside.
    pub memory_now: u64,
    /// Bytes of memory that builds may use; 0 where nobody counts.
    pub memory_limit: u64,
    /// Processor time that builds have used, microseconds; ever growing.
    pub cpu_us: u64,
    /// How often buildkitd was started.
    pub daemon_starts: u64,
}

/// A limit within so many bytes of the peak was reached.
const MARGIN: u64 = 1 << 20;

/// Prints `kills failures peak limit daemon kernel now cpu` of the first cgroup with memory counters. Under cgroup v1 a group does not
/// count the kills of those below it; the kernel's own count does, and the limit's failures, or the peak at the limit, say
/// that they were of this group.
const SCRIPT: &str = r#"
for d in GROUPS; do
  if [ -r "$d/memory.events" ]; then
    k=$(sed -n 's/^oom_kill //p' "$d/memory.events"); f=$k
    p=$(cat "$d/memory.peak" 2>/dev/null || cat "$d/memory.current"); l=$(cat "$d/memory.max")
    n=$(($(sed -n 's/^anon \|^shmem /+ /p' "$d/memory.stat"))); c=$(sed -n 's/^usage_usec //p' "$d/cpu.stat"); break
  elif [ -r "$d/memory.failcnt" ]; then
    k=$(sed -n 's/^oom_kill //p' /proc/vmstat); f=$(cat "$d/memory.failcnt")
    f=$((f + $(cat "$d/memory.memsw.failcnt" 2>/dev/null || echo 0)))
    p=$(cat "$d/memory.max_usage_in_bytes"); l=$(cat "$d/memory.limit_in_bytes")
    n=$(($(sed -n 's/^total_rss \|^total_shmem /+ /p' "$d/memory.stat")))
    c=$(cat "/sys/fs/cgroup/cpuacct/${d#/sys/fs/cgroup/memory}/cpuacct.usage" 2>/dev/null); c=$((${c:-0} / 1000)); break
  fi
done
s=$(stat -c %Y /run/buildkit/buildkitd.sock 2>/dev/null)
m=$(( $(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo) * 1024 ))
case $l in '') ;; max) l=$m ;; *) [ "$l" -le "$m" ] || l=$m ;; esac
v=$(sed -n 's/^oom_kill //p' /proc/vmstat)
echo "${k:-0} ${f:-0} ${p:-0} ${l:-0} ${s:-0} ${v:-0} ${n:-0} ${c:-0}"
"#;

/// A shell script that prints the counters of the first of these cgroups (a shell's words) that has any.
pub fn usage_script(groups: &str) -> String {
    SCRIPT.replace("GROUPS", groups)
}

/// One look at the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    kills: u64,
    failures: u64,
    peak: u64,
    limit: u64,
    daemon: u64,
    kernel: u64,
    now: u64,
    cpu: u64,
}

impl Reading {
    /// What [`usage_script`] printed; none where it is not understood.
    pub fn parse(text: &str) -> Option<Self> {
        let numbers: Vec<u64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        let [kills, failures, peak, limit, daemon, kernel, now, cpu] = numbers[..] else { return None };
        Some(Self { kills, failures, peak, limit, daemon, kernel, now, cpu })
    }
}

/// Kills that were of this runner's builds: a kill counts only where the limit of their own cgroup was hit since the last
/// look as well.
#[derive(Debug, Default)]
pub struct Kills {
    last: Option<(u64, u64)>,
    counted: u64,
}

impl Kills {
    /// What one more look says.
    pub fn usage(&mut self, read: &Reading) -> Usage {
        let full = read.peak + MARGIN >= read.limit;
        Usage {
            oom_kills: self.add(read.kills, read.failures, full),
            kernel_kills: read.kernel,
            memory_peak: read.peak,
            memory_now: read.now,
            memory_limit: read.limit,
            cpu_us: read.cpu,
            daemon_starts: read.daemon,
        }
    }

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
    fn reads_eight_numbers_and_nothing_else() {
        let read = Reading { kills: 1, failures: 2, peak: 3, limit: 4, daemon: 5, kernel: 6, now: 7, cpu: 8 };
        assert_eq!(Reading::parse("1 2 3 4 5 6 7 8\n"), Some(read));
        let none = ["", "1 2 3 4 5 6 7", "1 2 3 4 5 6 7 x"].map(Reading::parse);
        assert_eq!(none, [None, None, None]);
    }
}
