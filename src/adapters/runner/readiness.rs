//! Waits until a runner is ready to build. Not responsible for: its first boot, which makes it ready.

use std::time::Duration;

use tokio::time::Instant;

use crate::adapters::transport::{Problem, Transport};
use crate::domain::model::Fault;

/// First and longest delay between checks.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// Waits until the runner's own test succeeds.
///
/// # Errors
/// [`Problem::NotReady`] on timeout; [`Transport::lost`] at once if the runner is gone.
pub(super) async fn until_ready(transport: &dyn Transport, within: Duration) -> Result<(), Fault> {
    let test = transport.environment().ready_test;
    let deadline = Instant::now() + within;
    let mut pause = PAUSES.0;
    loop {
        let output = transport.exec(&test, b"").await?;
        if output.code == 0 {
            return Ok(());
        }
        tracing::debug!(words = output.stderr, "{} is not ready", transport.name());
        transport.check().await?;
        if Instant::now() + pause > deadline {
            return Err(transport.explain(Problem::NotReady(within)).await);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}
