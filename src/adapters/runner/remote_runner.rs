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
use crate::adapters::transport::{Problem, Progress, Readiness, Transport};
use crate::domain::model::{Fault, FaultClass};
use crate::domain::ports::{Counters, Holder, Meter, Usage};
use crate::system::watch::{SignsOfLife, until_silent};

/// Grace on top of the inner timeouts, so that the inner error is reported.
const GRACE: Duration = Duration::from_secs(5);

/// How long a dead runner may take to show its logs.
const EXPLAINED: Duration = Duration::from_secs(3);

/// A runner that can build. Dropping it ends what runs there and starts its cleanup.
pub struct RemoteRunner {
    /// Before the transport, because the guard is notified over the connection.
    guard: Option<Guard>,
    meter: Meter,
    transport: Arc<dyn Transport>,
}

impl RemoteRunner {
    /// Waits until the runner is ready; if it is shared, also takes its lock, for this holder. Both within this timeout,
    /// even if the runner hangs.
    ///
    /// # Errors
    /// If the runner is not ready, held by another connection, hanging, or lost.
    pub async fn prepare(transport: Arc<dyn Transport>, holder: &Holder, within: Duration) -> Result<Self, Fault> {
        let bound = within + GRACE;
        match tokio::time::timeout(bound, Self::prepared(&transport, holder, within)).await {
            Ok(guard) => Ok(Self { guard: guard?, meter: Meter::default(), transport }),
            Err(_) => Err(transport.explain(Problem::Hangs(bound)).await),
        }
    }

    async fn prepared(
        transport: &Arc<dyn Transport>,
        holder: &Holder,
        within: Duration,
    ) -> Result<Option<Guard>, Fault> {
        let started = tokio::time::Instant::now();
        until_ready(&**transport, within).await?;
        if !transport.environment().shared {
            return Ok(None);
        }
        hold(&**transport, holder, within.saturating_sub(started.elapsed())).await.map(Some)
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
        let gone = match self.check().await {
            Err(gone) => Some(gone),
            // A fault that names a step is that step's. Any other may be the daemon's.
            Ok(()) if fault.class() == FaultClass::Build && fault.step.is_none() => self.silent_daemon().await,
            Ok(()) => None,
        };
        match gone {
            None => fault,
            Some(mut gone) => {
                gone.evidence = Some(fault.message);
                gone
            }
        }
    }

    /// The fault of a daemon that does not answer now; `None` if it does.
    async fn silent_daemon(&self) -> Option<Fault> {
        match self.transport.ask_daemon().await {
            Ok(Readiness::Ready) => None,
            Ok(missing) => Some(self.transport.explain(Problem::NotReady(Duration::ZERO, missing)).await),
            Err(fault) => Some(fault),
        }
    }

    /// Returns when the runner's daemon is silent for too long, with the fault. While `signs` grow, nobody asks it.
    pub async fn death(&self, signs: &SignsOfLife) -> Fault {
        let (transport, began) = (&self.transport, tokio::time::Instant::now());
        let ask = || async {
            match transport.ask_daemon().await {
                Ok(Readiness::Ready) => Ok(()),
                Ok(missing) => Err(Ok(missing)),
                Err(fault) => Err(Err(fault)),
            }
        };
        let missing = match until_silent(signs, ask).await {
            Some(Err(fault)) => return fault,
            Some(Ok(missing)) => missing,
            None => Readiness::NoAnswer("it takes connections and says nothing".to_owned()),
        };
        // Whose silence is it: the daemon's alone, or the runner's?
        let explained = async {
            self.check().await?;
            transport.exec("true", b"").await?;
            Ok::<Fault, Fault>(transport.explain(Problem::NotReady(Duration::ZERO, missing)).await)
        };
        match tokio::time::timeout(EXPLAINED, explained).await {
            Ok(Ok(fault) | Err(fault)) => fault,
            Err(_) => transport.explain(Problem::Silent(began.elapsed())).await,
        }
    }

    /// Does work for which the runner must run commands. Ends it if the runner takes connections and answers nothing.
    async fn alive_for<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        let (signs, began) = (SignsOfLife::default(), tokio::time::Instant::now());
        let transport = &self.transport;
        let ask = || async { transport.exec("true", b"").await.map(drop) };
        tokio::select! {
            biased;
            done = work => done,
            silent = until_silent(&signs, ask) => Err(match silent {
                Some(fault) => fault,
                None => self.transport.explain(Problem::Hangs(began.elapsed())).await,
            }),
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
        self.alive_for(self.transport.copy_in(from, files, to, sent)).await
    }

    /// Creates a folder if missing.
    ///
    /// # Errors
    /// `lian::remote::transfer`; [`Transport::lost`].
    pub async fn make(&self, folder: &str) -> Result<(), Fault> {
        self.alive_for(files::make(&*self.transport, folder)).await
    }

    /// Writes files that only their owner may read.
    ///
    /// # Errors
    /// `lian::remote::transfer`; [`Transport::lost`].
    pub async fn put(&self, files: &[(String, Vec<u8>)]) -> Result<(), Fault> {
        self.alive_for(files::put_all(&*self.transport, files)).await
    }

    /// Empties a folder.
    ///
    /// # Errors
    /// `lian::remote::transfer`; [`Transport::lost`].
    pub async fn empty(&self, folder: &str) -> Result<(), Fault> {
        self.alive_for(files::empty(&*self.transport, folder)).await
    }

    /// Removes files and folders, if they exist.
    ///
    /// # Errors
    /// `lian::remote::transfer`; [`Transport::lost`].
    pub async fn remove(&self, paths: &[String]) -> Result<(), Fault> {
        self.alive_for(files::remove(&*self.transport, paths)).await
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
