//! `lian-build leases` and `leases gc`: which runners exist, and giving back those that nobody uses. Not responsible for: touching a
//! lease of a run that lives, or of somebody else before it expires.

use std::collections::BTreeSet;

use super::args::{Format, Global, Source};
use super::exit::{Exit, Failure, Outcome, outranked};
use super::recovered;
use super::show;
use crate::adapters::store::{OpenLease, Store, StoreError};
use crate::app::Error;
use crate::app::config::{Config, ProviderChoice};
use crate::app::recover::{self, Recovered};
use crate::app::runners::provider_context::{self, Purpose};
use crate::domain::base::{LeaseId, RunId};
use crate::domain::model::ProviderName;
use crate::domain::ports::OwnedLease;
use crate::report::{self, LeaseRow, Style};
use crate::system::now;

/// A lease that was named and cannot be given back.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
enum NamedLease {
    /// A run of this project uses it.
    #[error("the lease `{lease}` is held by the run {run}, which is alive")]
    #[diagnostic(
        code(lian::leases::held),
        help("stop that run (Ctrl-C where it runs): it gives its runners back by itself")
    )]
    Held { lease: String, run: RunId },
    /// Nobody knows it.
    #[error("there is no lease `{lease}`, neither in this project nor at its provider")]
    #[diagnostic(code(lian::leases::unknown), help("{help}"))]
    Unknown { lease: String, help: String },
}

fn settings_of(source: &Source, provider: Option<ProviderName>) -> Result<Config, Failure> {
    let mut settings = Config::of_source(&source.into())?;
    ProviderChoice { provider, ..ProviderChoice::default() }.over(&mut settings.workflow);
    Ok(settings)
}

/// The leases in it.
fn open_leases(ledger: Option<&Store>) -> Result<Vec<OpenLease>, StoreError> {
    ledger.map(Store::open_leases).transpose().map(Option::unwrap_or_default)
}

/// Lists the leases of this project, and those that its provider knows.
pub fn list(global: &Global, source: &Source, provider: Option<ProviderName>) -> Outcome {
    let settings = settings_of(source, provider)?;
    let store = settings.project.existing_store()?;
    let runtime = crate::app::runtime()?;
    let recovered = match &store {
        Some(store) => runtime.block_on(recover::recover(store, &settings.project))?,
        None => Recovered::default(),
    };
    recovered::tell(global, &recovered);
    let shown = runtime.block_on(owned(&settings)).and_then(|owned| {
        let rows = rows(&open_leases(store.as_ref())?, &owned);
        match global.format {
            Format::Json => show::json(&report::leases_json(&rows)),
            _ => show::out(&report::leases_table(&rows, now(), Style::stdout())),
        }
        Ok(Exit::Done)
    });
    outranked(shown, !recovered.stuck.is_empty())
}

/// Strikes leases of dead runs off the books. Whoever says so looks after what they may have left.
pub fn forget(global: &Global, source: &Source, named: &[String]) -> Outcome {
    let settings = Config::of_source(&source.into())?;
    let store = settings.project.existing_store()?;
    let open = open_leases(store.as_ref())?;
    // All of them, or none.
    for lease in named {
        let lease = lease.clone();
        match open.iter().find(|open| open.lease.as_str() == lease) {
            Some(open) if open.alive => {
                return Err(Failure::usage(NamedLease::Held { lease, run: open.run.clone() }));
            }
            Some(_) => {}
            None => return Err(Failure::usage(unknown(lease, open.iter().map(|open| open.lease.as_str())))),
        }
    }
    for lease in named {
        store.as_ref().map_or(Ok(()), |store| store.forget_lease(&LeaseId::new(lease.clone())))?;
        if global.format == Format::Text && !global.quiet {
            eprintln!("the lease {lease} is forgotten: what it may have left at its provider is yours to delete");
        }
    }
    if global.format == Format::Json {
        show::json(&serde_json::json!({ "schema": 1, "forgotten": named }));
    }
    Ok(Exit::Done)
}

/// Gives back what dead runs of this project left, and whatever at its provider is expired; and what is named.
pub fn gc(global: &Global, source: &Source, provider: Option<ProviderName>, named: &[String]) -> Outcome {
    let settings = settings_of(source, provider)?;
    let store = settings.project.existing_store()?;
    let runtime = crate::app::runtime()?;
    let mut recovered = match &store {
        Some(store) => runtime.block_on(recover::recover_all(store, &settings.project))?,
        None => Recovered::default(),
    };
    let collected = collect(&settings, store.as_ref(), &runtime, &mut recovered, named);
    recovered::tell(global, &recovered);
    let released: Vec<&str> = recovered.released.iter().map(LeaseId::as_str).collect();
    let stuck: Vec<&str> = recovered.stuck.iter().map(|(lease, _)| lease.as_str()).collect();
    match global.format {
        // A program that asked for what cannot be is told that instead.
        Format::Json if collected.is_err() => {}
        Format::Json => show::json(&serde_json::json!({ "schema": 1, "released": released, "stuck": stuck })),
        _ if global.quiet => {}
        _ if released.is_empty() && stuck.is_empty() && collected.is_err() => {}
        _ if released.is_empty() && stuck.is_empty() => {
            show::out(&format!("nothing to give back{}\n", others(collected.as_ref().map_or(0, |others| *others))));
        }
        _ => show::out(&format!("{} given back\n", report::count(released.len(), "runner"))),
    }
    outranked(collected.map(|_| Exit::Done), !stuck.is_empty())
}

/// What is left to others, for a person who may have run something from another folder.
fn others(count: usize) -> String {
    match count {
        0 => String::new(),
        count => format!(
            "; {} of other projects not expired yet: `lian-build leases` lists them, `leases gc --lease ID` gives one back",
            report::count(count, "lease")
        ),
    }
}

/// Gives back what is expired or named; the first name that cannot be is told when all else is done. How many leases of
/// others stay.
fn collect(
    settings: &Config,
    store: Option<&Store>,
    runtime: &tokio::runtime::Runtime,
    recovered: &mut Recovered,
    named: &[String],
) -> Result<usize, Failure> {
    let owned = runtime.block_on(owned(settings))?;
    let open = open_leases(store)?;
    let alive = |lease: &LeaseId| open.iter().any(|open| open.alive && open.lease == *lease);
    let wanted = |lease: &&OwnedLease| {
        let over = lease.expires.is_some_and(|expires| expires <= now());
        !alive(&lease.lease) && (over || named.iter().any(|name| name == lease.lease.as_str()))
    };
    let before: BTreeSet<LeaseId> = recovered.released.iter().cloned().collect();
    let provider = provider_context::provider(settings, Purpose::GiveBack)?;
    for lease in owned.iter().filter(wanted).filter(|lease| !before.contains(&lease.lease)) {
        match runtime.block_on(recover::give_back(&*provider, &lease.lease)) {
            Ok(()) => recovered.released.push(lease.lease.clone()),
            Err(fault) => recovered.stuck.push((lease.lease.clone(), fault.message)),
        }
    }
    let seen = recovered.released.iter().chain(recovered.stuck.iter().map(|(lease, _)| lease));
    let seen: BTreeSet<&str> = seen.map(LeaseId::as_str).collect();
    if let Some(lease) = named.iter().find(|name| !seen.contains(name.as_str())).cloned() {
        return Err(Failure::usage(match open.iter().find(|open| open.alive && open.lease.as_str() == lease) {
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
    let help = match crate::domain::base::nearest(&lease, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`lian-build leases` lists what there is; --provider or --workflow say whose".to_owned(),
    };
    NamedLease::Unknown { lease, help }
}

async fn owned(settings: &Config) -> Result<Vec<OwnedLease>, Failure> {
    Ok(provider_context::provider(settings, Purpose::GiveBack)?.owned().await.map_err(Error::outside)?)
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
