//! Verifies that an image holds what its layer promises, and reports everything that is missing in one fault. Not
//! responsible for: how each thing is searched for (see `probe`, `search` and `artifacts`).

use std::time::Duration;

use super::finding::{Finding, fault};
use super::solve::Solver;
use super::{artifacts, probe, search};
use crate::domain::base::Digest;
use crate::domain::model::{Fault, FaultKind};
use crate::domain::ports::VerifyRequest;

/// How long all probes may take together: a probe that hangs must not hang a run.
const LIMIT: Duration = Duration::from_secs(300);

pub(super) async fn verify(solver: &Solver, request: &VerifyRequest) -> Result<Option<Digest>, Fault> {
    let (mut findings, artifacts) = tokio::try_join!(bounded(solver, request), promoted(solver, request))?;
    match artifacts {
        Ok(digest) if findings.is_empty() => Ok(digest),
        Ok(_) => Err(fault(&findings)),
        Err(more) => {
            findings.extend(more);
            Err(fault(&findings))
        }
    }
}

/// Runs the probes within their time limit. The artifacts image has no limit, because it may be large.
async fn bounded(solver: &Solver, request: &VerifyRequest) -> Result<Vec<Finding>, Fault> {
    tokio::time::timeout(LIMIT, tools(solver, request)).await.unwrap_or_else(|_| {
        let message = format!("the probes of the image did not end within {} s", LIMIT.as_secs());
        let fault = Fault::new(FaultKind::Verification, "lian::verify::timeout", message);
        Err(fault.help("a probe waits for something: correct `probe` in the layer's `tools_provided`"))
    })
}

/// Verifies the image of each platform by itself. What several of them lack is reported once.
async fn tools(solver: &Solver, request: &VerifyRequest) -> Result<Vec<Finding>, Fault> {
    let mut findings = Vec::new();
    if request.tools.is_empty() {
        return Ok(findings);
    }
    for platform in request.platforms.iter() {
        let one = VerifyRequest { platforms: platform.clone().into(), ..request.clone() };
        let found = match probe::tools(solver, &one).await? {
            Some(found) => found,
            None => search::tools(solver, &one).await?,
        };
        for finding in found {
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    Ok(findings)
}

async fn promoted(solver: &Solver, request: &VerifyRequest) -> Result<Result<Option<Digest>, Vec<Finding>>, Fault> {
    if request.artifact_paths.is_empty() {
        return Ok(Ok(None));
    }
    Ok(artifacts::build(solver, request).await?.map(Some))
}
