//! A runner over any transport, with its whole life: ready, held, files in, counters read, cleaned up. Not
//! responsible for: what is built on it.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::hold::{Guard, hold};
use super::readiness::until_ready;
use super::{counters, files};
use crate::adapters::transport::{Problem, Progress, Transport};
use crate::domain::model::{Fault, FaultClass};
use crate::domain::ports::{Counters, Meter, Usage};

/// Grace on top of the inner timeouts, so that the inner error is reported.
const GRACE: Duration = Duration::from_secs(5);

/// A runner that can build. Dropping it ends what runs there and starts its cleanup.
pub struct RemoteRunner {
    /// Before the transport, because the guard is notified over the connection.
    guard: Option<Guard>,
    meter: Meter,
    transport: Arc<dyn Transport>,
}

impl RemoteRunner {
    /// Waits until the runner is ready; if it is shared, also takes its lock. Both within this timeout, even if the
    /// runner hangs.
    ///
    /// # Errors
    /// If the runner is not ready, held by another connection, hanging, or lost.
    pub async fn prepare(transport: Arc<dyn Transport>, within: Duration) -> Result<Self, Fault> {
        let bound = within + GRACE;
        match tokio::time::timeout(bound, Self::prepared(&transport, within)).await {
            Ok(guard) => Ok(Self { guard: guard?, meter: Meter::default(), transport }),
            Err(_) => Err(transport.explain(Problem::Hangs(bound)).await),
        }
    }

    async fn prepared(transport: &Arc<dyn Transport>, within: Duration) -> Result<Option<Guard>, Fault> {
        let started = tokio::time::Instant::now();
        until_ready(&**transport, within).await?;
        if !transport.environment().shared {
            return Ok(None);
        }
        hold(&**transport, within.saturating_sub(started.elapsed())).await.map(Some)
    }

    /// The transport to the runner.
    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.transport
    }

    /// The actual fault of a failure on the runner: if the runner is gone, its loss is the cause. Lack of memory is
    /// known from counters and stays as it is.
    pub async fn judge(&self, fault: Fault) -> Fault {
        if fault.class() == FaultClass::OutOfMemory {
            return fault;
        }
        match self.check().await {
            Ok(()) => fault,
            Err(mut gone) => {
                gone.evidence = Some(fault.message);
                gone
            }
        }
    }

    async fn check(&self) -> Result<(), Fault> {
        self.transport.check().await?;
        match &self.guard {
            Some(guard) if guard.has_ended() => Err(self.transport.lost("this run no longer holds the runner")),
            _ => Ok(()),
        }
    }

    /// Copies files and folders into an existing folder of the runner (see [`Transport::copy_in`]).
    ///
    /// # Errors
    /// The transport's faults.
    pub async fn copy_in(&self, from: &Path, files: &[OsString], to: &str, sent: Progress<'_>) -> Result<(), Fault> {
        self.transport.copy_in(from, files, to, sent).await
    }

    /// Creates a folder if missing.
    ///
    /// # Errors
    /// `lian::remote::transfer`; [`Transport::lost`].
    pub async fn make(&self, folder: &str) -> Result<(), Fault> {
        files::make(&*self.transport, folder).await
    }

    /// Writes files that only their owner may read.
    ///
    /// # Errors
    /// `lian::remote::transfer`; [`Transport::lost`].
    pub async fn put(&self, files: &[(String, Vec<u8>)]) -> Result<(), Fault> {
        files::put_all(&*self.transport, files).await
    }

    /// Empties a folder.
    ///
    /// # Errors
    /// `lian::remote::transfer`; [`Transport::lost`].
    pub async fn empty(&self, folder: &str) -> Result<(), Fault> {
        files::empty(&*self.transport, folder).await
    }

    /// Removes files and folders, if they exist.
    ///
    /// # Errors
    /// `lian::remote::transfer`; [`Transport::lost`].
    pub async fn remove(&self, paths: &[String]) -> Result<(), Fault> {
        files::remove(&*self.transport, paths).await
    }
}

#[async_trait]
impl Counters for RemoteRunner {
    async fn usage(&self) -> Result<Usage, Fault> {
        counters::usage(&*self.transport, &self.meter).await
    }

    fn pace(&self) -> Duration {
        self.transport.environment().pace
    }
}
