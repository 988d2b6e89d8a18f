//! Tries a workflow's services: its provider, its registry. Not responsible for: leasing, and keeping anything there.

use super::finding::Finding;
use crate::app::runners::provider_context;
use crate::app::session::Session;
use crate::app::{Error, ErrorKind};
use crate::domain::base::counted;
use crate::domain::model::Fault;

/// Asks the provider for its offers, which shows that it answers and takes the token. Nothing to ask where runners are
/// this machine as it is.
pub(super) fn provider(session: &Session) -> Result<Option<Finding>, Error> {
    let descriptor = session.config().descriptor()?;
    if !descriptor.runners.leased {
        return Ok(None);
    }
    let name = descriptor.flag;
    let provider = match provider_context::provider(session.config()) {
        Ok(provider) => provider,
        Err(error) => return Ok(Some(unusable(name, &error, "correct the workflow's `providers`"))),
    };
    let asked = session.wait(async {
        let offers = provider.offers().await?;
        provider.owned().await.whole()?;
        Ok::<_, Fault>(offers)
    })?;
    Ok(Some(match asked {
        Ok(offers) => {
            let names: Vec<&str> = offers.iter().map(|offer| offer.runner_type.as_str()).collect();
            let shown = names.iter().take(4).copied().collect::<Vec<_>>().join(", ");
            let more = if names.len() > 4 { ", …" } else { "" };
            let told = format!("it answers, and lets this user in; {}: {shown}{more}", counted(names.len(), "offer"));
            Finding::well(name, told)
        }
        Err(fault) => refused(name, &fault),
    }))
}

/// Tries whether images can be kept where the workflow wants them.
pub(super) fn images(session: &Session) -> Result<Finding, Error> {
    let images = match session.existing_images() {
        Err(error) if matches!(error.what, ErrorKind::Files(..)) => return Ok(unusable("images", &error, "")),
        images => images?,
    };
    let Some(images) = images else {
        return Ok(Finding::well(
            "images",
            format!("{} is made by the first build", session.config().layout.display()),
        ));
    };
    Ok(match session.wait(images.probe())? {
        Ok(place) => Finding::well("images", format!("{place}: reads and writes")),
        Err(error) => {
            let help = miette::Diagnostic::help(&error).map(|help| help.to_string()).unwrap_or_default();
            Finding::missing("images", error.to_string(), help)
        }
    })
}

/// An error of the workflow's settings as a finding, with the error's own way out if it has one.
fn unusable(name: &str, error: &Error, otherwise: &str) -> Finding {
    let help = match &error.what {
        ErrorKind::Files(faults, _) => faults.iter().find_map(|fault| fault.help.clone()),
        ErrorKind::Report(_) => None,
    };
    Finding::missing(name, error.to_string(), help.unwrap_or_else(|| otherwise.to_owned()))
}

/// A fault as a finding.
pub(super) fn refused(name: &str, fault: &Fault) -> Finding {
    let evidence = fault.evidence.as_ref().filter(|evidence| !fault.message.contains(evidence.as_str()));
    let told = match evidence {
        Some(evidence) if !evidence.is_empty() => format!("{}: {evidence}", fault.message),
        _ => fault.message.clone(),
    };
    Finding::missing(name, told, fault.help.clone().unwrap_or_default())
}
