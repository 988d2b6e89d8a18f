//! Checks whether fixed hosts are in use by another machine, and keeps the connections for later. Not responsible
//! for: reserving hosts (see `adapters::runner`).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::adapters::providers::{Availability, HostProbe};
use crate::adapters::runner::is_held;
use crate::adapters::transport::ssh::SshConnection;
use crate::domain::ports::SshTarget;

/// Timeout per host; connecting to the host later reports the cause.
const PATIENCE: Duration = Duration::from_secs(8);

/// Connections to hosts that were free, by user, address and port.
#[derive(Default)]
pub struct Connections {
    kept: Mutex<BTreeMap<String, SshConnection>>,
}

impl Connections {
    /// Takes the connection to a recently checked host, if still open.
    pub async fn claim(&self, target: &SshTarget) -> Option<SshConnection> {
        let connection = self.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(&name(target))?;
        connection.stands().await.then_some(connection)
    }
}

fn name(target: &SshTarget) -> String {
    format!("{}@{}:{}", target.user, target.address, target.port)
}

#[async_trait]
impl HostProbe for Connections {
    async fn of(&self, target: &SshTarget) -> Availability {
        let asked = async {
            let connection = SshConnection::connect(target, "host", PATIENCE / 2, Duration::ZERO).await.ok()?;
            let held = is_held(&connection).await.ok()?;
            Some((connection, held))
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Some((_, true))) => Availability::No,
            Ok(Some((connection, false))) => {
                self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(name(target), connection);
                Availability::Yes
            }
            Ok(None) | Err(_) => Availability::Unknown,
        }
    }
}
