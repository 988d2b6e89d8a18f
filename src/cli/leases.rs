//! `lian-build leases` and `leases gc`: which runners exist, and giving back those that nobody uses. Refuses: touching a
//! lease of a run that lives, or of somebody else before it expires.

use std::collections::BTreeSet;

use super::apply::now;
use super::args::{Format, Global, Source};
use super::exit::{Exit, Failure, Outcome};
use super::recover;
use super::rent;
use super::settings::Settings;
use super::show;
use crate::base::LeaseId;
use crate::ports::OwnedLease;
use crate::report::{self, LeaseRow, Style};
use crate::store::{OpenLease, Store};

/// Lists the leases of this project, and those that its provider knows.
pub fn list(global: &Global, source: &Source) -> Outcome {
    let settings = Settings::of_source(source)?;
    let store = Store::open(&settings.project_root)?;
    let runtime = show::runtime()?;
    let recovered = runtime.block_on(recover::recover(&store, &settings.project_root))?;
    recover::tell(global, &recovered);
    let owned = runtime.block_on(owned(&settings))?;
    let rows = rows(&store.open_leases()?, &owned);
    match global.format {
        Format::Json => show::json(&report::leases_json(&rows)),
        _ => show::out(&report::leases_table(&rows, now(), Style::stdout())),
    }
    Ok(if recovered.stuck.is_empty() { Exit::Done } else { Exit::Stuck })
}

/// Gives back what dead runs of this project left, and whatever at its provider is expired; and what is named.
pub fn gc(global: &Global, source: &Source, named: &[String]) -> Outcome {
    let settings = Settings::of_source(source)?;
    let store = Store::open(&settings.project_root)?;
    let runtime = show::runtime()?;
    let mut recovered = runtime.block_on(recover::recover_all(&store, &settings.project_root))?;
    let owned = runtime.block_on(owned(&settings))?;
    let alive: BTreeSet<LeaseId> = store.open_leases()?.into_iter().filter(|l| l.alive).map(|l| l.lease).collect();
    let wanted = |lease: &&OwnedLease| {
        let over = lease.expires.is_some_and(|expires| expires <= now());
        !alive.contains(&lease.lease) && (over || named.iter().any(|name| name == lease.lease.as_str()))
    };
    let provider = rent::provider(&settings)?;
    for lease in owned.iter().filter(wanted) {
        match runtime.block_on(recover::give_back(&*provider, &lease.lease)) {
            Ok(()) => recovered.released.push(lease.lease.clone()),
            Err(fault) => recovered.stuck.push((lease.lease.clone(), fault.message)),
        }
    }
    recover::tell(global, &recovered);
    let released: Vec<&str> = recovered.released.iter().map(LeaseId::as_str).collect();
    let stuck: Vec<&str> = recovered.stuck.iter().map(|(lease, _)| lease.as_str()).collect();
    match global.format {
        Format::Json => show::json(&serde_json::json!({ "schema": 1, "released": released, "stuck": stuck })),
        _ if global.quiet => {}
        _ if released.is_empty() && stuck.is_empty() => show::out("nothing to give back\n"),
        _ => show::out(&format!("{} given back\n", report::count(released.len(), "runner"))),
    }
    Ok(if stuck.is_empty() { Exit::Done } else { Exit::Stuck })
}

async fn owned(settings: &Settings) -> Result<Vec<OwnedLease>, Failure> {
    rent::provider(settings)?.owned().await.map_err(Failure::outside)
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
