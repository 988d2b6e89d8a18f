//! Compares what is wanted with what is granted, and stops a command for what is missing. Not responsible for: finding
//! what is wanted; drawing.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::collect::{of_base_images, text_of};
use super::grants::{self, Grant};
use super::policy::Given;
use super::want::{Kind, Want};
use crate::app::Error;
use crate::app::config::Config;
use crate::domain::base::Digest;
use crate::domain::model::{Diagnostic, FaultClass, Severity, Sources};

/// Stops unless everything that is there is granted: asks once for all that is missing, if somebody is there to answer.
/// All refusals come at once, each with its place.
pub fn demand(config: &Config, wants: Vec<Want>) -> Result<(), Error> {
    if wants.is_empty() {
        return Ok(());
    }
    let granted = Granted::of(config)?;
    let missing: Vec<Want> = wants.into_iter().filter(|want| want.blocks() && !granted.has(want)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if let Some(ask) = config.trust.ask
        && missing.iter().all(|want| want.never.is_none())
        && ask(&missing)
    {
        return record_all(config, &missing);
    }
    Err(refused(&missing))
}

/// Records grants of all that can be granted.
pub fn record_all(config: &Config, wants: &[Want]) -> Result<(), Error> {
    grants::add(&config.project, wants.iter().filter(|want| want.never.is_none()).map(Grant::of))
}

/// Which of these are granted, in the same order.
pub fn is_granted(config: &Config, wants: &[Want]) -> Result<Vec<bool>, Error> {
    let granted = Granted::of(config)?;
    Ok(wants.iter().map(|want| granted.has(want)).collect())
}

/// Whether something of this kind is wanted, there, and not granted.
pub fn is_missing(config: &Config, wants: &[Want], kind: Kind) -> Result<bool, Error> {
    let granted = Granted::of(config)?;
    Ok(wants.iter().any(|want| want.kind == kind && want.blocks() && !granted.has(want)))
}

/// The configuration without those substitutes that the project names and nobody granted: they are not to be read. Without
/// any of the project's outside it, if the grants cannot be read.
pub fn with_granted_images(config: &Config) -> Cow<'_, Config> {
    let wants = of_base_images(config);
    if wants.is_empty() {
        return Cow::Borrowed(config);
    }
    let granted = Granted::of(config);
    let is_missing = |want: &&Want| granted.as_ref().map_or(true, |granted| want.blocks() && !granted.has(want));
    let mut config = config.clone();
    for image in wants.iter().filter(is_missing).filter_map(|want| want.id.as_deref()) {
        config.base_images.remove(image);
    }
    Cow::Owned(config)
}

/// For a command that gives nothing away: warnings of what nobody can grant.
pub fn refusals(wants: &[Want]) -> Vec<Diagnostic> {
    let never = wants.iter().filter(|want| want.never.is_some());
    never.map(|want| Diagnostic { severity: Severity::Warning, ..want.refusal() }).collect()
}

/// What is granted to this command.
enum Granted {
    All,
    These(BTreeSet<Digest>),
}

impl Granted {
    fn of(config: &Config) -> Result<Self, Error> {
        let mut known = match &config.trust.given {
            Given::All => return Ok(Self::All),
            Given::Nothing => Vec::new(),
            Given::File(file) => grants::in_file(file)?,
        };
        known.extend(grants::read(&config.project)?);
        Ok(Self::These(known.into_iter().map(|grant| grant.digest).collect()))
    }

    fn has(&self, want: &Want) -> bool {
        match self {
            _ if want.never.is_some() => false,
            Self::All => true,
            Self::These(digests) => digests.contains(&want.digest()),
        }
    }
}

/// The refusal of these, each with its place.
pub fn refused(missing: &[Want]) -> Error {
    let faults = missing.iter().map(Want::refusal).collect();
    Error { class: FaultClass::Configuration, ..Error::files(faults, sources(missing)) }
}

/// The refusal to record these, since nobody said yes.
pub fn unasked(wants: &[Want]) -> Error {
    let way =
        "if you trust whoever wrote this: `lian-build trust --yes` grants all that is told here; on a terminal it asks";
    let fault = |want: &Want| {
        let fault = want.refusal();
        if want.never.is_some() { fault } else { fault.help(way) }
    };
    Error { class: FaultClass::Configuration, ..Error::files(wants.iter().map(fault).collect(), sources(wants)) }
}

/// The texts that declare these.
pub fn sources(wants: &[Want]) -> Sources {
    let mut sources = Sources::default();
    for want in wants {
        if let Some(text) = text_of(&want.place.file) {
            sources.add(want.place.file.clone(), text);
        }
    }
    sources
}

/// `file:line` of a declaration, as displayed.
pub fn place_of(want: &Want) -> String {
    let file = &want.place.file;
    match text_of(file) {
        Some(text) => format!("{}:{}", file.display(), want.place.span.line_column(&text).0),
        None => file.display().to_string(),
    }
}
