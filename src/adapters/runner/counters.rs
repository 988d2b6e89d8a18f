//! Reads a runner's kernel counters. Not responsible for: judging them.

use crate::adapters::transport::{Problem, Transport};
use crate::domain::model::Fault;
use crate::domain::ports::{Meter, Usage, usage_script};

/// The current counters. If the kernel killed the whole runner, its counters are gone; this counts as one more kill.
///
/// # Errors
/// [`Problem::NoCounters`]; [`Transport::lost`].
pub(super) async fn usage(transport: &dyn Transport, meter: &Meter) -> Result<Usage, Fault> {
    let script = usage_script(transport.environment().cgroups, true);
    let fault = match transport.exec(&script, b"").await {
        Ok(output) => match meter.read(&output.stdout) {
            Some(usage) => return Ok(usage),
            None => transport.explain(Problem::NoCounters).await,
        },
        Err(fault) => fault,
    };
    if transport.died_of_memory().await { Ok(meter.killed()) } else { Err(fault) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// What the script prints of a folder that looks like a cgroup.
    fn read(meter: &Meter, folder: &Path) -> Usage {
        let script = usage_script(&folder.display().to_string(), true);
        let output = std::process::Command::new("sh").args(["-c", &script]).output().expect("a shell");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        meter.read(&printed).unwrap_or_else(|| panic!("{printed} {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Files as a kernel with cgroup v2 writes them (6.1; `memory.oom_group_kill` came with 5.17, `memory.peak` with 5.19).
    const STAT: &str = "anon 220200960\nfile 73400320\nkernel 5242880\nshmem 4194304\nfile_mapped 0\n\
                        slab_reclaimable 2097152\nslab_unreclaimable 1048576\nslab 3145728\n";
    const EVENTS: &str = "low 0\nhigh 0\nmax 4127\noom 3\noom_kill 2\noom_group_kill 7\n";
    const CPU: &str = "usage_usec 1234567\nuser_usec 1000000\nsystem_usec 234567\nnr_periods 0\n";

    #[test]
    fn the_counters_of_cgroup_v2_are_read_as_the_kernel_writes_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("writable");
        let mib = |count: u64| count << 20;
        write("memory.events", EVENTS);
        write("memory.stat", STAT);
        write("cpu.stat", CPU);
        write("memory.max", &format!("{}\n", mib(300)));
        write("memory.current", &format!("{}\n", mib(250)));
        write("memory.peak", &format!("{}\n", mib(299)));
        let meter = Meter::default();
        let first = read(&meter, folder.path());
        assert_eq!((first.oom_kills, first.memory_limit, first.cpu_us), (0, mib(300), 1_234_567), "{first:?}");
        // Anonymous memory and what is shared in memory cannot be given back; files and slabs can.
        assert_eq!(first.memory_now, mib(210) + mib(4), "{first:?}");
        // The limit was hit and memory was found again: nobody was killed.
        write("memory.events", &EVENTS.replace("max 4127", "max 9000").replace("oom 3", "oom 4"));
        assert_eq!(read(&meter, folder.path()).oom_kills, 0);
        // A kill in a step's own group below counts here: the file is of the whole tree.
        write("memory.events", &EVENTS.replace("oom_kill 2", "oom_kill 3"));
        let killed = read(&meter, folder.path());
        assert_eq!((killed.oom_kills, killed.killed_at), (1, mib(300)), "{killed:?}");
        // Without a limit it is the machine's memory; without the kernel's mark the peak is what is used now.
        write("memory.max", "max\n");
        std::fs::remove_file(folder.path().join("memory.peak")).expect("removable");
        let machine = read(&Meter::default(), folder.path());
        assert!(machine.memory_limit > mib(300), "{machine:?}");
    }
}
