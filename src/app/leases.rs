//! Lists leases and releases unused ones. Not responsible for: releasing leases of live runs, or unexpired leases of
//! others.

use std::collections::BTreeSet;

use super::Error;
use super::recover::{self, Recovered};
use super::runners::provider_context;
use super::session::Session;
use crate::adapters::store::{OpenLease, Store};
use crate::domain::base::{LeaseId, RunId, nearest};
use crate::domain::model::{Classified, FaultClass};
use crate::domain::ports::{ComputeProvider, OwnedLease};
use crate::report::LeaseRow;
use crate::system::now;

/// A named lease cannot be released.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
enum NamedLease {
    /// A live run of this project uses it.
    #[error("the lease `{lease}` is held by the run {run}, which is alive")]
    #[diagnostic(
        code(lian::leases::held),
        help("stop that run (Ctrl-C where it runs): it gives its runners back by itself")
    )]
    Held { lease: String, run: RunId },
    /// The lease is unknown.
    #[error("there is no lease `{lease}`, neither in this project nor at its provider")]
    #[diagnostic(code(lian::leases::unknown), help("{help}"))]
    Unknown { lease: String, help: String },
}

impl Classified for NamedLease {
    fn class(&self) -> FaultClass {
        FaultClass::Configuration
    }
}

/// A project's leases, and the result of the recovery before they were listed.
pub struct Listed {
    /// The result of the recovery.
    pub recovered: Recovered,
    /// The leases of this project, and those its provider lists.
    pub rows: Result<Vec<LeaseRow>, Error>,
}

/// Lists leases.
pub fn list(session: &Session) -> Result<Listed, Error> {
    let store = session.existing_store()?;
    let recovered = match store {
        Some(store) => session.wait(recover::recover(store, session.project()))??,
        None => Recovered::default(),
    };
    let owned = provider_context::provider_for_leases(session.config()).and_then(|provider| owned(session, &*provider));
    let rows = owned.and_then(|owned| Ok(rows(&open_leases(store)?, &owned)));
    Ok(Listed { recovered, rows })
}

/// Removes leases of dead runs from the ledger without releasing them: all of them, or none. The user must check for
/// leftovers.
pub fn forget(session: &Session, named: &[String]) -> Result<(), Error> {
    let store = session.existing_store()?;
    let open = open_leases(store)?;
    for lease in named {
        let lease = lease.clone();
        match open.iter().find(|open| open.lease.as_str() == lease) {
            Some(open) if open.alive => {
                return Err(Error::from(NamedLease::Held { lease, run: open.run.clone() }));
            }
            Some(_) => {}
            None => {
                return Err(Error::from(unknown(lease, open.iter().map(|open| open.lease.as_str()))));
            }
        }
    }
    for lease in named {
        store.map_or(Ok(()), |store| store.forget_lease(&LeaseId::new(lease.clone())))?;
    }
    Ok(())
}

/// The result of releasing leases.
pub struct Collected {
    /// What was released, and what could not be.
    pub recovered: Recovered,
    /// How many leases of others remain; or why a named lease could not be released.
    pub others: Result<usize, Error>,
}

/// Releases the leases of dead runs of this project, expired leases at its provider, and the named ones.
pub fn collect(session: &Session, named: &[String]) -> Result<Collected, Error> {
    let store = session.existing_store()?;
    let mut recovered = match store {
        Some(store) => session.wait(recover::recover_all(store, session.project()))??,
        None => Recovered::default(),
    };
    let others = collect_owned(session, store, &mut recovered, named);
    Ok(Collected { recovered, others })
}

/// The leases in the project's ledger.
fn open_leases(store: Option<&Store>) -> Result<Vec<OpenLease>, Error> {
    Ok(store.map(Store::open_leases).transpose()?.unwrap_or_default())
}

/// Releases expired or named leases; reports the first name that fails after all others are done. Returns how many
/// leases of others remain.
fn collect_owned(
    session: &Session,
    store: Option<&Store>,
    recovered: &mut Recovered,
    named: &[String],
) -> Result<usize, Error> {
    let provider = provider_context::provider_for_leases(session.config())?;
    let owned = owned(session, &*provider)?;
    let open = open_leases(store)?;
    let alive = |lease: &LeaseId| open.iter().any(|open| open.alive && open.lease == *lease);
    let wanted = |lease: &&OwnedLease| {
        let over = lease.expires.is_some_and(|expires| expires <= now());
        !alive(&lease.lease) && (over || named.iter().any(|name| name == lease.lease.as_str()))
    };
    let before: BTreeSet<LeaseId> = recovered.released.iter().cloned().collect();
    for lease in owned.iter().filter(wanted).filter(|lease| !before.contains(&lease.lease)) {
        match session.wait(recover::give_back(&*provider, &lease.lease))? {
            Ok(()) => recovered.released.push(lease.lease.clone()),
            Err(fault) => recovered.stuck.push((lease.lease.clone(), fault.message)),
        }
    }
    let seen = recovered.released.iter().chain(recovered.stuck.iter().map(|(lease, _)| lease));
    let seen: BTreeSet<&str> = seen.map(LeaseId::as_str).collect();
    if let Some(lease) = named.iter().find(|name| !seen.contains(name.as_str())).cloned() {
        return Err(Error::from(match open.iter().find(|open| open.alive && open.lease.as_str() == lease) {
            Some(open) => NamedLease::Held { lease, run: open.run.clone() },
            None => unknown(
                lease,
                owned.iter().map(|owned| owned.lease.as_str()).chain(open.iter().map(|open| open.lease.as_str())),
            ),
        }));
    }
    let others = owned.iter().filter(|owned| !seen.contains(owned.lease.as_str()) && !alive(&owned.lease));
    Ok(others.count())
}

fn unknown<'a>(lease: String, known: impl Iterator<Item = &'a str>) -> NamedLease {
    let help = match nearest(&lease, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`lian-build leases` lists what there is; --provider or --workflow say whose".to_owned(),
    };
    NamedLease::Unknown { lease, help }
}

fn owned(session: &Session, provider: &dyn ComputeProvider) -> Result<Vec<OwnedLease>, Error> {
    session.wait(provider.owned())?.map_err(Error::outside)
}

fn rows(open: &[OpenLease], owned: &[OwnedLease]) -> Vec<LeaseRow> {
    let known = |lease: &LeaseId| owned.iter().find(|owned| owned.lease == *lease);
    let mut rows: Vec<LeaseRow> = open
        .iter()
        .map(|lease| {
            let seen = known(&lease.lease);
            let state = match (lease.alive, lease.state.as_str()) {
                (true, _) => "held",
                (false, "stuck") => "stuck",
                (false, _) => "left",
            };
            let what = seen.map_or_else(|| lease.runner_type.clone().unwrap_or_default(), |seen| seen.what.clone());
            LeaseRow {
                lease: lease.lease.to_string(),
                run: Some(lease.run.to_string()),
                state: state.to_owned(),
                what,
                since: Some(lease.asked),
                expires: seen.and_then(|seen| seen.expires),
            }
        })
        .collect();
    let foreign = owned.iter().filter(|owned| !open.iter().any(|lease| lease.lease == owned.lease));
    rows.extend(foreign.map(|owned| LeaseRow {
        lease: owned.lease.to_string(),
        run: owned.run.as_ref().map(ToString::to_string),
        state: "foreign".to_owned(),
        what: owned.what.clone(),
        since: owned.created,
        expires: owned.expires,
    }));
    rows
}
