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
    /// The most memory of builds since the last look, without what caches add as far as that is known, bytes.
    pub memory_peak: u64,
    /// How much memory they had when the last kill was counted, bytes.
    #[serde(default)]
    pub killed_at: u64,
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

/// Prints `kills failures peak limit daemon kernel now cpu cache reset` of the first cgroup with memory counters. The
/// kernel may be seconds late with `now` and `cache`, but its mark of the `peak` is exact. `reset` is 1 if the mark was
/// set back, so that the next one is that of the time between two looks (only cgroup v1 can do that). Under cgroup v1
/// a group does not count kills in its child groups, but the kernel's global count does; a limit failure, or a peak
/// at the limit, then shows that the kills were in this group. The shell reads all but one number itself, so that a
/// sample costs a busy runner almost nothing.
const SCRIPT: &str = r#"
value() { v=; [ -r "$1" ] && read -r v <"$1"; v=${v:-0}; }
sum() { v=0; [ -r "$1" ] || return 0; while read -r a b _; do case " $2 " in *" ${a%:} "*) v=$((v + b)) ;; esac; done <"$1"; }
sum /proc/meminfo MemTotal; m=$((v * 1024))
sum /proc/vmstat oom_kill; e=$v
memory() {
  anon=0; shm=0; file=0; slab=0; [ -r "$1" ] || return 0
  while read -r a b _; do case $a in
    anon|total_rss) anon=$b ;; shmem|total_shmem) shm=$b ;; file|total_cache) file=$b ;; slab_reclaimable) slab=$b ;;
  esac; done <"$1"
  n=$((anon + shm)); x=$((file > shm ? file - shm + slab : slab))
}
k=0; f=0; p=0; l=0; n=0; c=0; x=0; r=0
for d in GROUPS; do
  if [ -r "$d/memory.events" ]; then
    sum "$d/memory.events" oom_kill; k=$v; f=$v
    if [ -r "$d/memory.peak" ]; then value "$d/memory.peak"; else value "$d/memory.current"; fi; p=$v
    value "$d/memory.max"; l=$v
    memory "$d/memory.stat"
    sum "$d/cpu.stat" usage_usec; c=$v
    break
  elif [ -r "$d/memory.failcnt" ]; then
    k=$e; value "$d/memory.failcnt"; f=$v; value "$d/memory.memsw.failcnt"; f=$((f + v))
    value "$d/memory.max_usage_in_bytes"; p=$v
    value "$d/memory.limit_in_bytes"; l=$v
    memory "$d/memory.stat"; value "$d/memory.kmem.usage_in_bytes"; x=$((x + v))
    [ EXCLUSIVE = 0 ] || { { echo 0 >"$d/memory.max_usage_in_bytes"; } 2>/dev/null && r=1; }
    value "/sys/fs/cgroup/cpuacct/${d#/sys/fs/cgroup/memory}/cpuacct.usage"; c=$((v / 1000))
    break
  fi
done
case $l in 0) ;; max) l=$m ;; *) [ "$l" -le "$m" ] || l=$m ;; esac
s=$(stat -c %Y /run/buildkit/buildkitd.sock 2>/dev/null)
echo "$k $f $p $l ${s:-0} $e $n $c $x $r"
"#;

/// A shell script that prints the counters of the first of these cgroups (shell words) that has any. Whoever has the group
/// `exclusive`ly may set back the kernel's mark.
pub fn usage_script(groups: &str, exclusive: bool) -> String {
    SCRIPT.replace("GROUPS", groups).replace("EXCLUSIVE", if exclusive { "1" } else { "0" })
}

/// Interprets successive samples of one runner's counters.
#[derive(Debug, Default)]
pub struct Meter {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    kills: Kills,
    reading: Option<Reading>,
    last: Usage,
}

impl Seen {
    /// The most memory, with caches, between the last look and this one; `None` if the kernel's mark is older than that.
    fn peak(&self, read: &Reading) -> Option<u64> {
        let before = self.reading?;
        (before.reset || read.peak > before.peak).then_some(read.peak)
    }

    fn usage(&mut self, read: &Reading) -> Usage {
        let peak = self.peak(read);
        let full = match peak {
            Some(peak) => peak + MARGIN >= read.limit,
            // A mark above the limit is from a time when the limit was higher.
            None => read.peak.abs_diff(read.limit) <= MARGIN,
        };
        let oom_kills = self.kills.add(read.kills, read.failures, full);
        let killed_at = match peak {
            _ if oom_kills == self.last.oom_kills => self.last.killed_at,
            Some(peak) => peak.min(read.limit),
            None => read.limit,
        };
        let cache = self.reading.map_or(0, |before| before.cache).max(read.cache);
        let memory_peak = peak.map_or(0, |peak| peak.saturating_sub(cache)).max(read.now);
        self.reading = Some(*read);
        self.last = Usage {
            oom_kills,
            kernel_kills: read.kernel,
            memory_peak,
            killed_at,
            memory_now: read.now,
            memory_limit: read.limit,
            cpu_us: read.cpu,
            daemon_starts: read.daemon,
        };
        self.last
    }
}

impl Meter {
    /// Parses the next output of [`usage_script`]; `None` if it is invalid.
    pub fn read(&self, text: &str) -> Option<Usage> {
        let reading = Reading::parse(text)?;
        Some(self.seen.lock().unwrap_or_else(PoisonError::into_inner).usage(&reading))
    }

    /// The counters after the kernel killed the whole runner: the last sample, plus one kill.
    pub fn killed(&self) -> Usage {
        let last = self.seen.lock().unwrap_or_else(PoisonError::into_inner).last;
        let limit = last.memory_limit;
        Usage { oom_kills: last.oom_kills + 1, memory_peak: limit, killed_at: limit, ..last }
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
    cache: u64,
    reset: bool,
}

impl Reading {
    fn parse(text: &str) -> Option<Self> {
        let numbers: Vec<u64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        let [kills, failures, peak, limit, daemon, kernel, now, cpu, cache, reset] = numbers[..] else { return None };
        Some(Self { kills, failures, peak, limit, daemon, kernel, now, cpu, cache, reset: reset == 1 })
    }
}

/// Counts the kills in this runner's builds: only those where their own cgroup also hit its limit. A sample reads the
/// kills first: what happens in the middle of it shows the limit in this sample, and the kill in the next one.
#[derive(Debug, Default)]
struct Kills {
    last: Option<(u64, u64)>,
    /// The last sample showed the limit, and no kill.
    hit: bool,
    counted: u64,
}

impl Kills {
    fn add(&mut self, kills: u64, failures: u64, full: bool) -> u64 {
        if let Some((kills_before, failures_before)) = self.last.replace((kills, failures)) {
            let (more, hit) = (kills.saturating_sub(kills_before), full || failures > failures_before);
            if hit || self.hit {
                self.counted += more;
            }
            self.hit = hit && more == 0;
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
        assert_eq!(kills.add(12, 151, false), 3, "one look at the limit explains the kills of one sample");
    }

    #[test]
    fn a_kill_in_the_middle_of_a_sample_counts_in_the_next() {
        let mut kills = Kills::default();
        kills.add(7, 100, false);
        assert_eq!(kills.add(7, 120, true), 0, "the kills were read before it");
        assert_eq!(kills.add(8, 120, false), 1);
        assert_eq!(kills.add(9, 120, false), 1, "somebody else's kill");
        assert_eq!([kills.add(9, 130, false), kills.add(9, 130, false), kills.add(10, 130, false)], [1, 1, 1]);
    }

    #[test]
    fn reads_ten_numbers_and_nothing_else() {
        let (cache, reset) = (9, true);
        let read =
            Reading { kills: 1, failures: 2, peak: 3, limit: 4, daemon: 5, kernel: 6, now: 7, cpu: 8, cache, reset };
        assert_eq!(Reading::parse("1 2 3 4 5 6 7 8 9 1\n"), Some(read));
        let none = ["", "1 2 3 4 5 6 7 8 9", "1 2 3 4 5 6 7 8 9 x"].map(Reading::parse);
        assert_eq!(none, [None, None, None]);
    }

    const LIMIT: u64 = 300 << 20;

    /// The usage after each of these readings: kills, failures, peak and cache in MiB, and whether the mark was set back.
    fn metered<const N: usize>(readings: [(u64, u64, u64, u64, u8); N]) -> [Usage; N] {
        let meter = Meter::default();
        readings.map(|(kills, failures, peak, cache, reset)| {
            let (peak, cache) = (peak << 20, cache << 20);
            let text = format!("{kills} {failures} {peak} {LIMIT} 1 0 5 0 {cache} {reset}");
            meter.read(&text).expect("understood")
        })
    }

    #[test]
    fn the_peak_of_an_earlier_build_is_not_told_as_this_ones() {
        // The limit was higher when the mark was left: 1800 of 300.
        let [_, _, killed] = metered([(0, 10, 1800, 0, 0), (0, 10, 1800, 0, 0), (1, 11, 1800, 0, 0)]);
        assert_eq!((killed.oom_kills, killed.killed_at), (1, LIMIT));
        // Somebody else's kill beside such a mark is nobody's.
        let [_, other] = metered([(0, 10, 1800, 0, 0), (1, 10, 1800, 0, 0)]);
        assert_eq!((other.oom_kills, other.memory_peak), (0, 5));
        // The same beside the mark of an earlier kill at this limit, where the mark is set back.
        let [_, first, second, third] =
            metered([(0, 0, 9, 0, 1), (1, 0, 300, 0, 1), (2, 0, 40, 0, 1), (2, 0, 50, 0, 1)]);
        assert_eq!((first.oom_kills, second.oom_kills), (1, 1));
        assert_eq!((first.killed_at, third.killed_at), (LIMIT, LIMIT), "it stays until the next kill");
    }

    #[test]
    fn a_short_peak_is_known_by_the_kernels_mark_without_its_caches() {
        let peaks = |readings| metered::<3>(readings).map(|usage| usage.memory_peak >> 20);
        assert_eq!(peaks([(0, 0, 290, 20, 1), (0, 0, 200, 50, 1), (0, 0, 100, 60, 1)]), [0, 150, 40]);
        // Where the mark stays, it says something only when it rises.
        assert_eq!(peaks([(0, 0, 290, 20, 0), (0, 0, 290, 50, 0), (0, 0, 295, 50, 0)]), [0, 0, 245]);
    }

    #[test]
    fn a_runner_that_was_killed_whole_has_one_kill_more_at_its_limit() {
        let meter = Meter::default();
        assert_eq!(meter.killed().oom_kills, 1, "it was never looked at");
        meter.read("0 0 300 1000 1 0 200 7 0 0").expect("understood");
        assert!(meter.read("nonsense").is_none());
        let killed = meter.killed();
        assert_eq!((killed.oom_kills, killed.memory_peak, killed.cpu_us), (1, 1000, 7));
    }
}
