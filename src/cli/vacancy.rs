//! Asks fixed hosts whether somebody on another machine has them. Refuses: taking them (see `reach`).

use std::time::Duration;

use async_trait::async_trait;

use crate::ports::SshTarget;
use crate::providers::{Vacancy, Vacant};
use crate::remote::Link;

/// A host that does not answer within this is not waited for here: the one who reaches it says why.
const PATIENCE: Duration = Duration::from_secs(8);

/// Asks over a connection of its own.
pub struct OverSsh;

#[async_trait]
impl Vacancy for OverSsh {
    async fn of(&self, target: &SshTarget) -> Vacant {
        let asked = async {
            let link = Link::connect(target, "vacancy", PATIENCE / 2, Duration::ZERO).await.ok()?;
            link.is_taken().await.ok()
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Some(true)) => Vacant::No,
            Ok(Some(false)) => Vacant::Yes,
            Ok(None) | Err(_) => Vacant::Unknown,
        }
    }
}
