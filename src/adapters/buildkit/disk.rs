//! How much disk the daemon's cache uses, and how to shrink it. Not responsible for: images (`registry` owns those).

use std::time::Duration;

use serde::Deserialize;

use super::daemon::Daemon;
use super::error::BuildkitError;
use crate::system::process::{Printed, output};

/// Removing much of a large cache takes minutes.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// The size of the daemon's cache, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUse {
    /// The whole cache.
    pub total: u64,
    /// The part that no build is using.
    pub reclaimable: u64,
}

#[derive(Deserialize)]
struct Record {
    #[serde(default)]
    size: u64,
    #[serde(rename = "inUse", default)]
    in_use: bool,
}

impl Daemon {
    /// The size of its cache.
    ///
    /// # Errors
    /// [`BuildkitError::Command`].
    pub async fn disk_use(&self) -> Result<DiskUse, BuildkitError> {
        let text = self.run(&["du", "--format", "{{json .}}"]).await?;
        let records: Option<Vec<Record>> = serde_json::from_slice(&text).map_err(|error| BuildkitError::Command {
            command: "buildctl du".to_owned(),
            what: format!("its answer could not be parsed: {error}"),
            help: "is this BuildKit v0.18 or newer? `lian-build doctor` shows its version".to_owned(),
        })?;
        let mut found = DiskUse::default();
        for record in records.unwrap_or_default() {
            found.total += record.size;
            found.reclaimable += if record.in_use { 0 } else { record.size };
        }
        Ok(found)
    }

    /// Shrinks its cache to about this many bytes, the least recently used entries first. Returns how many bytes were
    /// freed.
    ///
    /// # Errors
    /// [`BuildkitError::Command`].
    pub async fn prune(&self, keep_bytes: u64) -> Result<u64, BuildkitError> {
        let before = self.disk_use().await?.total;
        // The option is in MB, and 0 would mean "no limit". One megabyte is close enough to nothing.
        let keep = (keep_bytes / 1_000_000).max(1).to_string();
        self.run(&["prune", "--all", "--keep-storage", &keep]).await?;
        Ok(before.saturating_sub(self.disk_use().await?.total))
    }

    async fn run(&self, args: &[&str]) -> Result<Vec<u8>, BuildkitError> {
        let failed = |what: String| BuildkitError::Command {
            command: format!("buildctl {}", args.join(" ")),
            what,
            help: "`lian-build doctor` shows whether the daemon is well".to_owned(),
        };
        let mut command = self.binaries().client();
        command.args(["--addr", self.address()]).args(args);
        output(command, LIMIT, Printed::List).await.map_err(|error| failed(error.to_string()))
    }
}
