//! Resource counters of a runner's kernel, and the shell script that reads them. Not responsible for: running the
//! shell.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// Counters of a runner's kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Build processes killed, or allocations refused, for lack of memory; cumulative.
    pub oom_kills: u64,
    /// Processes killed on the whole machine for lack of memory; cumulative.
    pub kernel_kills: u64,
    /// Peak memory of builds, bytes.
    pub memory_peak: u64,
    /// Current memory of builds without caches, bytes.
    pub memory_now: u64,
    /// Memory limit of builds, bytes; 0 if not counted.
    pub memory_limit: u64,
    /// Processor time of builds, microseconds; cumulative.
    pub cpu_us: u64,
    /// How often buildkitd was started.
    pub daemon_starts: u64,
}

/// A peak within this many bytes of the limit counts as reaching it.
const MARGIN: u64 = 1 << 20;

/// Prints `kills failures peak limit daemon kernel now cpu` of the first cgroup with memory counters. Under cgroup v1
/// a group does not count kills in its child groups, but the kernel's global count does; a limit failure, or a peak
/// at the limit, then shows that the kills were in this group. The shell reads all but one number itself, so that a
/// sample costs a busy runner almost nothing.
const SCRIPT: &str = r#"
value() { v=; [ -r "$1" ] && read -r v <"$1"; v=${v:-0}; }
sum() { v=0; [ -r "$1" ] || return 0; while read -r a b _; do case " $2 " in *" ${a%:} "*) v=$((v + b)) ;; esac; done <"$1"; }
sum /proc/meminfo MemTotal; m=$((v * 1024))
sum /proc/vmstat oom_kill; e=$v
k=0; f=0; p=0; l=0; n=0; c=0
for d in GROUPS; do
  if [ -r "$d/memory.events" ]; then
    sum "$d/memory.events" oom_kill; k=$v; f=$v
    if [ -r "$d/memory.peak" ]; then value "$d/memory.peak"; else value "$d/memory.current"; fi; p=$v
    value "$d/memory.max"; l=$v
    sum "$d/memory.stat" "anon shmem"; n=$v
    sum "$d/cpu.stat" usage_usec; c=$v
    break
  elif [ -r "$d/memory.failcnt" ]; then
    k=$e; value "$d/memory.failcnt"; f=$v; value "$d/memory.memsw.failcnt"; f=$((f + v))
    value "$d/memory.max_usage_in_bytes"; p=$v
    value "$d/memory.limit_in_bytes"; l=$v
    sum "$d/memory.stat" "total_rss total_shmem"; n=$v
    value "/sys/fs/cgroup/cpuacct/${d#/sys/fs/cgroup/memory}/cpuacct.usage"; c=$((v / 1000))
    break
  fi
done
case $l in 0) ;; max) l=$m ;; *) [ "$l" -le "$m" ] || l=$m ;; esac
s=$(stat -c %Y /run/buildkit/buildkitd.sock 2>/dev/null)
echo "$k $f $p $l ${s:-0} $e $n $c"
"#;

/// A shell script that prints the counters of the first of these cgroups (shell words) that has any.
pub fn usage_script(groups: &str) -> String {
    SCRIPT.replace("GROUPS", groups)
}

/// Interprets successive samples of one runner's counters.
#[derive(Debug, Default)]
pub struct Meter {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    kills: Kills,
    last: Usage,
}

impl Meter {
    /// Parses the next output of [`usage_script`]; `None` if it is invalid.
    pub fn read(&self, text: &str) -> Option<Usage> {
        let reading = Reading::parse(text)?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.last = seen.kills.usage(&reading);
        Some(seen.last)
    }

    /// The counters after the kernel killed the whole runner: the last sample, plus one kill.
    pub fn killed(&self) -> Usage {
        let last = self.seen.lock().unwrap_or_else(PoisonError::into_inner).last;
        Usage { oom_kills: last.oom_kills + 1, memory_peak: last.memory_limit, ..last }
    }
}

/// One sample of the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
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
    fn parse(text: &str) -> Option<Self> {
        let numbers: Vec<u64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        let [kills, failures, peak, limit, daemon, kernel, now, cpu] = numbers[..] else { return None };
        Some(Self { kills, failures, peak, limit, daemon, kernel, now, cpu })
    }
}

/// Counts the kills in this runner's builds: only those where their own cgroup also hit its limit since the last
/// sample.
#[derive(Debug, Default)]
struct Kills {
    last: Option<(u64, u64)>,
    counted: u64,
}

impl Kills {
    fn usage(&mut self, read: &Reading) -> Usage {
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

    #[test]
    fn a_runner_that_was_killed_whole_has_one_kill_more_at_its_limit() {
        let meter = Meter::default();
        assert_eq!(meter.killed().oom_kills, 1, "it was never looked at");
        meter.read("0 0 300 1000 1 0 200 7").expect("understood");
        assert!(meter.read("nonsense").is_none());
        let killed = meter.killed();
        assert_eq!((killed.oom_kills, killed.memory_peak, killed.cpu_us), (1, 1000, 7));
    }
}
