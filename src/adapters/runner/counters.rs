//! Asks a runner what its kernel counted. Not responsible for: judging it.

use crate::adapters::transport::{Problem, Transport};
use crate::domain::model::Fault;
use crate::domain::ports::{Meter, Usage, usage_script};

/// The counters now. A runner that the kernel killed cannot be asked any more: then it is one more kill.
///
/// # Errors
/// [`Problem::NoCounters`]; [`Transport::lost`].
pub(super) async fn usage(transport: &dyn Transport, meter: &Meter) -> Result<Usage, Fault> {
    let script = usage_script(transport.environment().cgroups);
    let fault = match transport.exec(&script, b"").await {
        Ok(output) => match meter.read(&output.stdout) {
            Some(usage) => return Ok(usage),
            None => transport.explain(Problem::NoCounters).await,
        },
        Err(fault) => fault,
    };
    if transport.died_of_memory().await { Ok(meter.killed()) } else { Err(fault) }
}
