//! Lists leases and releases unused ones. Not responsible for: releasing leases of this project's live runs; asking a
//! person (the caller's `consent`).

use std::collections::BTreeSet;

use super::Error;
use super::recover::{self, Recovered};
use super::runners::provider_context;
use super::session::Session;
use crate::adapters::store::{OpenLease, Store};
use crate::domain::base::{LeaseId, RunId, Timestamp, human_duration, nearest};
use crate::domain::model::{Classified, FaultClass};
use crate::domain::ports::{ComputeProvider, LeaseRecord, OwnedLease, OwnedLeases};
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
    /// It has not expired, and nothing here says that its run is dead.
    #[error(
        "the lease `{lease}`{of} is not expired{until}: its run may be alive, in another folder or on another machine"
    )]
    #[diagnostic(
        code(lian::leases::foreign),
        help(
            "ask whoever runs it to stop it; `--force` takes the runner away all the same, and that run's build is lost"
        )
    )]
    Foreign { lease: String, of: String, until: String },
    /// Whoever was asked declined.
    #[error("the lease `{lease}` stays as it is")]
    #[diagnostic(code(lian::leases::declined), help("answer `y` to take it away from its run"))]
    Declined { lease: String },
    /// The lease is unknown.
    #[error("there is no lease `{lease}`, neither in this project nor at its provider")]
    #[diagnostic(code(lian::leases::unknown), help("{help}"))]
    Unknown { lease: String, help: String },
}

impl Classified for NamedLease {
    fn class(&self) -> FaultClass {
        match self {
            Self::Held { .. } | Self::Foreign { .. } | Self::Unknown { .. } => FaultClass::Configuration,
            Self::Declined { .. } => FaultClass::Cancelled,
        }
    }
}

/// Leases to release although they are not expired.
pub struct Named<'a> {
    /// Their ids.
    pub leases: &'a [String],
    /// Whether each may be taken from a run that may be alive. `None`: none may.
    pub consent: Option<&'a dyn Fn(&OwnedLease) -> bool>,
}

/// A project's leases, and the result of the recovery before they were listed.
pub struct Listed {
    /// The result of the recovery.
    pub recovered: Recovered,
    /// The leases of this project, and those its provider lists.
    pub rows: Result<Vec<LeaseRow>, Error>,
    /// Why some may be missing at the provider: what could not be asked or listed.
    pub unseen: Vec<Error>,
}

/// Lists leases.
pub fn list(session: &Session) -> Result<Listed, Error> {
    let store = session.existing_store()?;
    let recovered = match store {
        Some(store) => session.wait(recover::recover(store, session.config()))??,
        None => Recovered::default(),
    };
    let provider = provider_context::provider_for_leases(session.config());
    let asked = provider.and_then(|provider| {
        let (owned, mut unseen) = owned(session, &*provider)?;
        let holders = session.wait(provider.holders())?;
        unseen.extend(holders.unseen.into_iter().map(Error::outside));
        Ok((owned, holders.leases, unseen))
    });
    let (owned, holders, unseen) = asked.unwrap_or_else(|error| (Vec::new(), Vec::new(), vec![error]));
    let rows = open_leases(store).map(|open| {
        let mut rows = rows(&open, &owned);
        rows.extend(holders.into_iter().map(|holder| row_of(holder, "held")));
        rows
    });
    Ok(Listed { recovered, rows, unseen })
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
    /// Leases of dead runs that were released, and all that could not be.
    pub recovered: Recovered,
    /// Leases that had expired, or were named, and were released.
    pub taken: Vec<OwnedLease>,
    /// How many leases of others remain; or why a named lease could not be released.
    pub others: Result<usize, Error>,
}

/// Releases the leases of dead runs of this project, expired leases at its provider, and the named ones.
pub fn collect(session: &Session, named: &Named<'_>) -> Result<Collected, Error> {
    let store = session.existing_store()?;
    let recovered = match store {
        Some(store) => session.wait(recover::recover_all(store, session.config()))??,
        None => Recovered::default(),
    };
    let mut collected = Collected { recovered, taken: Vec::new(), others: Ok(0) };
    collected.others = collect_owned(session, store, &mut collected, named);
    Ok(collected)
}

/// The leases in the project's ledger.
fn open_leases(store: Option<&Store>) -> Result<Vec<OpenLease>, Error> {
    Ok(store.map(Store::open_leases).transpose()?.unwrap_or_default())
}

/// Releases expired or named leases; what could not be listed, or the first name that fails, is reported after all
/// others are done. Returns how many leases of others remain.
fn collect_owned(
    session: &Session,
    store: Option<&Store>,
    collected: &mut Collected,
    named: &Named<'_>,
) -> Result<usize, Error> {
    let provider = provider_context::provider_for_leases(session.config())?;
    let (owned, unseen) = owned(session, &*provider)?;
    let open = open_leases(store)?;
    let before: BTreeSet<LeaseId> = collected.recovered.released.iter().cloned().collect();
    let alive = |lease: &LeaseId| open.iter().any(|open| open.alive && open.lease == *lease);
    let is_named = |lease: &LeaseId| named.leases.iter().any(|name| name == lease.as_str());
    let mut kept = None;
    for lease in owned.iter().filter(|lease| !alive(&lease.lease) && !before.contains(&lease.lease)) {
        if lease.expires.is_none_or(|expires| expires > now()) {
            if !is_named(&lease.lease) {
                continue;
            }
            if let Err(refused) = consented(lease, named) {
                kept = kept.or(Some(refused));
                continue;
            }
        }
        match session.wait(recover::give_back(&*provider, &lease.lease, &LeaseRecord::default()))? {
            Ok(_) => collected.taken.push(lease.clone()),
            Err(fault) => collected.recovered.stuck.push((lease.lease.clone(), fault.message)),
        }
    }
    if let Some(unseen) = unseen.into_iter().next() {
        return Err(unseen);
    }
    let Collected { recovered, taken, .. } = &*collected;
    let seen = recovered.released.iter().chain(recovered.stuck.iter().map(|(lease, _)| lease));
    let seen: BTreeSet<&str> = seen.chain(taken.iter().map(|lease| &lease.lease)).map(LeaseId::as_str).collect();
    if let Some(refused) = kept {
        return Err(Error::from(refused));
    }
    if let Some(lease) = named.leases.iter().find(|name| !seen.contains(name.as_str())).cloned() {
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

/// Whether a lease may be taken from a run that may be alive.
fn consented(owned: &OwnedLease, named: &Named<'_>) -> Result<(), NamedLease> {
    let lease = owned.lease.to_string();
    match named.consent {
        Some(consent) if consent(owned) => Ok(()),
        Some(_) => Err(NamedLease::Declined { lease }),
        None => {
            let of = owned.run.as_ref().map_or_else(String::new, |run| format!(" of the run {run}"));
            let left = |expires: Timestamp| format!(" (it is in {})", human_duration(expires.since(now())));
            Err(NamedLease::Foreign { lease, of, until: owned.expires.map_or_else(String::new, left) })
        }
    }
}

fn unknown<'a>(lease: String, known: impl Iterator<Item = &'a str>) -> NamedLease {
    let help = match nearest(&lease, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`lian-build leases` lists what there is; --provider or --workflow say whose".to_owned(),
    };
    NamedLease::Unknown { lease, help }
}

/// The leases at a provider, and why some may be missing.
fn owned(session: &Session, provider: &dyn ComputeProvider) -> Result<(Vec<OwnedLease>, Vec<Error>), Error> {
    let OwnedLeases { leases, unseen } = session.wait(provider.owned())?;
    Ok((leases, unseen.into_iter().map(Error::outside).collect()))
}

/// What a lease is, as far as the ledger knows: what its provider named, or else the runner that was requested.
fn known(lease: &OpenLease) -> String {
    let known: Vec<String> = lease.known.iter().map(|known| known.resource.to_string()).collect();
    if known.is_empty() { lease.runner_type.clone().unwrap_or_default() } else { known.join(", ") }
}

fn rows(open: &[OpenLease], owned: &[OwnedLease]) -> Vec<LeaseRow> {
    let known = |lease: &LeaseId| owned.iter().find(|owned| owned.lease == *lease);
    let mut rows: Vec<LeaseRow> = open
        .iter()
        .map(|lease| {
            let seen = known(&lease.lease);
            let state = match (lease.alive, lease.state.as_str()) {
                (true, "asked") => "queued",
                (true, _) => "held",
                (false, "stuck") => "stuck",
                (false, _) => "left",
            };
            let what = seen.map_or_else(|| self::known(lease), |seen| seen.what.clone());
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
    rows.extend(foreign.map(|owned| row_of(owned.clone(), "foreign")));
    rows
}

fn row_of(owned: OwnedLease, state: &str) -> LeaseRow {
    LeaseRow {
        lease: owned.lease.to_string(),
        run: owned.run.as_ref().map(ToString::to_string),
        state: state.to_owned(),
        what: owned.what,
        since: owned.created,
        expires: owned.expires,
    }
}
