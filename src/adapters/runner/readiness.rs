//! Waits until a runner is ready to build. Not responsible for: its first boot, which makes it ready.

use std::time::Duration;

use tokio::time::Instant;

use crate::adapters::transport::{Problem, Readiness, Transport};
use crate::domain::model::Fault;
use crate::system::retry::Backoff;

/// Delays between looks.
const LOOKS: Backoff = Backoff::of_polls(Duration::from_millis(20), Duration::from_millis(500));

/// Waits until the runner's daemon answers.
///
/// # Errors
/// [`Problem::NotReady`] on timeout; [`Transport::lost`] at once if the runner is gone.
pub(super) async fn until_ready(transport: &dyn Transport, within: Duration) -> Result<(), Fault> {
    let mut looks = LOOKS.pauses().until(Instant::now() + within);
    loop {
        let missing = match transport.look().await? {
            Readiness::Ready => return Ok(()),
            missing => missing,
        };
        tracing::debug!(?missing, "{} is not ready", transport.name());
        transport.check().await?;
        if !looks.poll().await {
            return Err(transport.explain(Problem::NotReady(within, missing)).await);
        }
    }
}
