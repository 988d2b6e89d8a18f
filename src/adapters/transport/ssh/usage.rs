//! Asks a runner what its kernel counted. Not responsible for: judging it.

use async_trait::async_trait;

use super::link::Link;
use crate::domain::model::{Fault, FaultKind};
use crate::domain::ports::{Counters, Reading, Usage, usage_script};

/// Where the builds' steps are counted: `/run/lian/cgroup` names the group where the runner was made for lian-build.
const GROUPS: &str = "$(cat /run/lian/cgroup 2>/dev/null) /sys/fs/cgroup/lian-build /sys/fs/cgroup/memory/buildkit \
  /sys/fs/cgroup/buildkit /sys/fs/cgroup/memory /sys/fs/cgroup";

#[async_trait]
impl Counters for Link {
    /// Faults: `lian::remote::link_lost`; `lian::remote::usage` where the answer is not understood.
    async fn usage(&self) -> Result<Usage, Fault> {
        let ran = self.run(&usage_script(GROUPS)).await?;
        let read = Reading::parse(&ran.stdout).ok_or_else(|| {
            let message = format!("the memory counters of {} are not understood", self.name());
            Fault::new(FaultKind::Infrastructure, "lian::remote::usage", message)
                .help("out-of-memory kills of this runner are told as failed builds")
        })?;
        Ok(self.kills.lock().unwrap_or_else(std::sync::PoisonError::into_inner).usage(&read))
    }
}
