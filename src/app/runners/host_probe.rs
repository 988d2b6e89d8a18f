//! Asks fixed hosts whether somebody on another machine has them, and keeps the connection for who reaches the host next.
//! Not responsible for: taking hosts (see `reach`).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::adapters::providers::{Availability, HostProbe};
use crate::adapters::transport::ssh::Link;
use crate::domain::ports::SshTarget;

/// A host that does not answer within this is not waited for here: the one who reaches it says why.
const PATIENCE: Duration = Duration::from_secs(8);

/// Connections to hosts that were free, by user, address and port.
#[derive(Default)]
pub struct Connections {
    kept: Mutex<BTreeMap<String, Link>>,
}

impl Connections {
    /// The connection to a host that was just asked, where there is one that still stands.
    pub async fn claim(&self, target: &SshTarget) -> Option<Link> {
        let link = self.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(&name(target))?;
        link.stands().await.then_some(link)
    }
}

fn name(target: &SshTarget) -> String {
    format!("{}@{}:{}", target.user, target.address, target.port)
}

#[async_trait]
impl HostProbe for Connections {
    async fn of(&self, target: &SshTarget) -> Availability {
        let asked = async {
            let link = Link::connect(target, "host", PATIENCE / 2, Duration::ZERO).await.ok()?;
            let taken = link.is_taken().await.ok()?;
            Some((link, taken))
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Some((_, true))) => Availability::No,
            Ok(Some((link, false))) => {
                self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(name(target), link);
                Availability::Yes
            }
            Ok(None) | Err(_) => Availability::Unknown,
        }
    }
}
