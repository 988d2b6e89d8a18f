//! Reads this machine's kernel counters for the steps of our own daemon. Not responsible for: judging them.

use std::time::Duration;

use async_trait::async_trait;
use tokio::process::Command;

use crate::domain::model::{Fault, FaultKind};
use crate::domain::ports::{Counters, Meter, Usage, usage_script};
use crate::system::environment::{self, Purpose};
use crate::system::process::{Printed, output};

/// How long this machine may take to say what it counts.
const LIMIT: Duration = Duration::from_secs(30);

/// The cgroups that count steps if the daemon has no cgroup of its own.
const GROUPS: &str = "/sys/fs/cgroup/buildkit /sys/fs/cgroup/memory/buildkit";

/// The counters of this machine.
#[derive(Debug, Default)]
pub struct HostCounters {
    meter: Meter,
}

#[async_trait]
impl Counters for HostCounters {
    /// Fault: `lian::buildkit::usage` if the counters cannot be read.
    async fn usage(&self) -> Result<Usage, Fault> {
        let unknown = |why: String| {
            let message = format!("this machine's memory counters could not be read: {why}");
            Fault::new(FaultKind::Infrastructure, "lian::buildkit::usage", message)
                .help("steps that the kernel kills are reported as failed builds")
        };
        let mut command = Command::from(environment::command("sh", Purpose::Local));
        command.arg("-c").arg(usage_script(GROUPS, false));
        let printed = output(command, LIMIT, Printed::Answer).await.map_err(|error| unknown(error.to_string()))?;
        let text = String::from_utf8_lossy(&printed).into_owned();
        self.meter.read(&text).ok_or_else(|| unknown(text))
    }
}
