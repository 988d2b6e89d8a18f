//! Reads a runner's kernel counters. Not responsible for: judging them.

use crate::adapters::transport::{Problem, Transport};
use crate::domain::model::Fault;
use crate::domain::ports::{Meter, Usage, usage_script};

/// The current counters. If the kernel killed the whole runner, its counters are gone; this counts as one more kill.
///
/// # Errors
/// [`Problem::NoCounters`]; [`Transport::lost`].
pub(super) async fn usage(transport: &dyn Transport, meter: &Meter) -> Result<Usage, Fault> {
    let script = usage_script(transport.environment().cgroups, true);
    let fault = match transport.exec(&script, b"").await {
        Ok(output) => match meter.read(&output.stdout) {
            Some(usage) => return Ok(usage),
            None => transport.explain(Problem::NoCounters).await,
        },
        Err(fault) => fault,
    };
    if transport.died_of_memory().await { Ok(meter.killed()) } else { Err(fault) }
}
