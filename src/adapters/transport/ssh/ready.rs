//! Waiting until a runner can build. Not responsible for: making it so (its first boot does).

use std::time::Duration;

use tokio::time::Instant;

use super::link::Link;
use crate::domain::model::{Fault, FaultKind};

/// buildkitd's socket on every runner.
pub const DAEMON_SOCKET: &str = "/run/buildkit/buildkitd.sock";
/// Written by a runner's first boot when all is there. Its folder says that there is such a file to wait for.
pub const READY_FILE: &str = "/run/lian/ready";

impl Link {
    /// Waits until buildkitd's socket is there, and the readiness file where there is going to be one.
    ///
    /// # Errors
    /// `lian::remote::not_ready` when the time is over; `lian::remote::link_lost`.
    pub async fn ready(&self, within: Duration) -> Result<(), Fault> {
        let script = format!("[ -S {DAEMON_SOCKET} ] && {{ [ ! -d /run/lian ] || [ -e {READY_FILE} ]; }}");
        let deadline = Instant::now() + within;
        let mut pause = Duration::from_millis(20);
        loop {
            if self.run(&script).await?.code == 0 {
                return Ok(());
            }
            if Instant::now() + pause > deadline {
                return Err(self.not_ready(within).await);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    async fn not_ready(&self, within: Duration) -> Fault {
        let message = format!("{} has no BuildKit daemon, after {} s", self.name(), within.as_secs());
        let mut fault = Fault::new(FaultKind::Infrastructure, "lian::remote::not_ready", message);
        // What its first boot wrote last says most.
        let log = self.run("tail -n 12 /var/log/cloud-init-output.log 2>/dev/null").await;
        fault.log_tail = log.map(|ran| ran.stdout.lines().map(str::to_owned).collect()).unwrap_or_default();
        fault.help(format!("start buildkitd there, listening on {DAEMON_SOCKET}, or raise `runners.boot_timeout_s`"))
    }
}
