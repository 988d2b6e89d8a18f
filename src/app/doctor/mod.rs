//! Finds what builds lack: on this machine, and, for a workflow, on its hosts and at its services. Not responsible for:
//! fixing it, showing it.

mod finding;
mod hosts;
mod machine;
mod services;

pub use finding::{Finding, State};

use super::Error;
use super::session::Session;

/// Checks this machine.
pub fn examine(session: &Session) -> Result<Vec<Finding>, Error> {
    machine::examine(session, false)
}

/// Checks all that a workflow's builds need: this machine, its hosts, its provider, its registry.
pub fn examine_workflow(session: &Session) -> Result<Vec<Finding>, Error> {
    let remote = session.config().descriptor()?.runners.remote;
    let mut findings = machine::examine(session, remote)?;
    findings.extend(services::provider(session)?);
    findings.extend(hosts::all(session)?);
    findings.push(services::images(session)?);
    Ok(findings)
}
