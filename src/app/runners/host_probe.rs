//! Checks whether fixed hosts are in use by another machine and are well, and keeps the connections for later. Not
//! responsible for: reserving hosts (see `adapters::runner`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::adapters::buildkit::{Binaries, Daemon, other_platform};
use crate::adapters::providers::{Availability, HostProbe};

use crate::adapters::runner::{fit, held};
use crate::adapters::transport::ssh::SshConnection;
use crate::adapters::transport::{Problem, Readiness, Transport as _};
use crate::domain::base::Platform;
use crate::domain::model::{ContextTransfer, Fault};
use crate::domain::ports::{Held, SshTarget};

/// How long a host may take to let us in. A fixed host does not boot.
pub(super) const REACH: Duration = Duration::from_secs(5);
/// How long it may then take to say how it is.
const ASK: Duration = Duration::from_secs(12);
/// The way out where a runner's daemon builds for others than its platform.
pub(super) const OTHER_PLATFORM: &str = "say its real `platform` in the workflow, or install emulation there: \
                                         `docker run --privileged --rm tonistiigi/binfmt --install all`, then \
                                         restart its buildkitd";

/// Connections to hosts that were free and well, by user, address and port.
#[derive(Default)]
pub struct Connections {
    kept: Mutex<BTreeMap<String, SshConnection>>,
    /// Whether contexts are copied to hosts, and buildctl runs there.
    copied: bool,
    /// Hosts that were ever probed.
    fixed: Mutex<BTreeSet<String>>,
}

impl Connections {
    /// For builds whose contexts are copied to the hosts, or are not.
    pub fn new(transfer: ContextTransfer) -> Self {
        Self { copied: transfer == ContextTransfer::Rsync, ..Self::default() }
    }

    /// Takes the connection to a recently checked host, if still open.
    pub async fn claim(&self, target: &SshTarget) -> Option<SshConnection> {
        let connection = locked(&self.kept).remove(&name(target))?;
        connection.stands().await.then_some(connection)
    }

    /// Whether this is a fixed host: it does not boot, so that it can be reached in seconds or not at all.
    pub fn is_fixed(&self, target: &SshTarget) -> bool {
        locked(&self.fixed).contains(&name(target))
    }

    /// Asks a host; keeps the connection if it can be used.
    async fn asked(&self, target: &SshTarget, platform: &Platform) -> Result<Availability, Fault> {
        let connection = SshConnection::connect(target, "host", REACH, Duration::ZERO).await?;
        let looked = async {
            if let Some(held) = held(&connection).await? {
                return Ok(Some(Availability::No(held)));
            }
            match connection.look().await? {
                Readiness::Ready => {
                    fit(&connection, self.copied).await?;
                    serves(&connection, platform).await.map(|()| None)
                }
                missing => Err(connection.explain(Problem::NotReady(Duration::ZERO, missing)).await),
            }
        };
        match tokio::time::timeout(ASK, looked).await {
            Ok(Ok(Some(taken))) => Ok(taken),
            Ok(Ok(None)) => {
                locked(&self.kept).insert(name(target), connection);
                Ok(Availability::Yes)
            }
            Ok(Err(fault)) => Err(fault),
            Err(_) => Err(connection.explain(Problem::Hangs(ASK)).await),
        }
    }
}

/// Whether the host's daemon builds for a platform. Without a buildctl here only the build itself can tell.
async fn serves(connection: &SshConnection, platform: &Platform) -> Result<(), Fault> {
    let Ok(binaries) = Binaries::find() else { return Ok(()) };
    let platforms = Daemon::platforms_at(&binaries, &connection.daemon_address().await?).await.unwrap_or_default();
    other_platform(connection.name(), &platforms, platform, OTHER_PLATFORM).map_or(Ok(()), Err)
}

fn name(target: &SshTarget) -> String {
    format!("{}@{}:{}", target.user, target.address, target.port)
}

fn locked<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl HostProbe for Connections {
    async fn of(&self, target: &SshTarget, platform: &Platform) -> Availability {
        locked(&self.fixed).insert(name(target));
        self.asked(target, platform).await.unwrap_or_else(|fault| Availability::Unusable(Box::new(fault)))
    }

    async fn holder(&self, target: &SshTarget) -> Result<Option<Held>, Fault> {
        // A host at work is slow to let people in, and no other is looked for in its place.
        let connection = SshConnection::connect(target, "host", ASK, Duration::ZERO).await?;
        match tokio::time::timeout(ASK, held(&connection)).await {
            Ok(holder) => holder,
            Err(_) => Err(connection.explain(Problem::Hangs(ASK)).await),
        }
    }
}
