//! Waits until a runner can build. Not responsible for: making it so (its first boot does).

use std::time::Duration;

use tokio::time::Instant;

use crate::adapters::transport::{Problem, Transport};
use crate::domain::model::Fault;

/// The first and the longest pause between two looks.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// Waits until the runner's own test says that it can build.
///
/// # Errors
/// [`Problem::NotReady`] when the time is over; at once where the runner is gone.
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
