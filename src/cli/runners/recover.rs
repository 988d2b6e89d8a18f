//! Gives back what dead runs left. Refuses: touching the leases of a run that lives.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::rent::{self, Remembered};
use crate::base::LeaseId;
use crate::cli::apply::now;
use crate::cli::args::{Format, Global};
use crate::cli::exit::Failure;
use crate::cli::show;
use crate::model::Fault;
use crate::ports::ComputeProvider;
use crate::store::{OpenLease, Store, StoreError};

/// A create call that was not answered may still come true at the provider, and may have been made long after it was
/// written down: what it may have left is looked for once more, so long after the first look.
const SETTLED: Duration = Duration::from_secs(10);
/// Tries of one release before it counts as stuck for this command.
const TRIES: u32 = 4;
/// The pause before the second of them; doubled each time.
const PAUSE: Duration = Duration::from_millis(250);

/// What came of the leases of dead runs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Given back.
    pub released: Vec<LeaseId>,
    /// Given back as far as one can see; looked for again a little later.
    pub settling: Vec<LeaseId>,
    /// Not given back, and why.
    pub stuck: Vec<(LeaseId, String)>,
}

/// Gives back every lease of a dead run, each at the provider that it was asked of.
pub async fn recover(store: &Store, project_root: &Path) -> Result<Recovered, Failure> {
    let mut recovered = Recovered::default();
    let mut providers: BTreeMap<String, Result<Remembered, String>> = BTreeMap::new();
    for lease in store.open_leases()?.into_iter().filter(|lease| !lease.alive) {
        let provider = providers
            .entry(lease.provider.clone())
            .or_insert_with(|| rent::remembered(&lease.provider, project_root).map_err(|failure| failure.to_string()));
        let released = match provider {
            Ok(remembered) => give_back_there(remembered, &lease.lease).await,
            Err(why) => Err(why.clone()),
        };
        match released {
            Ok(found) if found || is_settled(&lease) => {
                written(store.forget_lease(&lease.lease));
                recovered.released.push(lease.lease);
            }
            Ok(_) => {
                if lease.state != "settling" {
                    written(store.lease_is_settling(&lease.lease, now()));
                }
                recovered.settling.push(lease.lease);
            }
            Err(why) => {
                written(store.lease_is_stuck(&lease.lease, now()));
                recovered.stuck.push((lease.lease, why));
            }
        }
    }
    Ok(recovered)
}

/// A ledger that cannot be written is no reason to leave the other runners where they are: they are given back once more
/// by the next command, which does no harm.
fn written(result: Result<(), StoreError>) {
    if let Err(error) = result {
        tracing::warn!("the ledger of leases: {error}");
    }
}

/// What was granted is gone once it is given back. What was only asked for, as far as one knows, is looked for twice.
fn is_settled(lease: &OpenLease) -> bool {
    lease.state == "held" || (lease.state == "settling" && now().since(lease.changed) >= SETTLED)
}

/// Gives back with the credentials of now. Where a run rented with others and these find nothing, nothing is known; where
/// they do, that was it. Says whether it was found for certain.
async fn give_back_there(remembered: &Remembered, lease: &LeaseId) -> Result<bool, String> {
    let provider = &*remembered.provider;
    if remembered.elsewhere {
        let owned = provider.owned().await.map_err(|fault| fault.message)?;
        if !owned.iter().any(|owned| owned.lease == *lease) {
            return Err(
                "it was rented with another token, or at another address, and with these it is not to be found; \
                        use the token of that project"
                    .to_owned(),
            );
        }
    }
    give_back(provider, lease).await.map_err(|fault| fault.message)?;
    Ok(remembered.elsewhere)
}

/// What a command does before all else that can fail: gives back what dead runs of this project left, and tells of it. A
/// project without a history has no such runs.
pub fn first(global: &Global, project_root: &Path) -> Result<Recovered, Failure> {
    let Some(store) = ledger(project_root)? else { return Ok(Recovered::default()) };
    let left = show::runtime()?.block_on(recover(&store, project_root))?;
    tell(global, &left);
    Ok(left)
}

/// The ledger, to be written; none where there is no history yet.
fn ledger(project_root: &Path) -> Result<Option<Store>, StoreError> {
    Store::is_there(project_root).then(|| Store::open(project_root)).transpose()
}

/// What a command does in the end: what had to settle is looked for once more, and told where it is stuck. Whether
/// anything is.
pub fn is_stuck(project_root: &Path, left: Recovered) -> bool {
    if left.settling.is_empty() {
        return !left.stuck.is_empty();
    }
    let look = || {
        let Some(store) = ledger(project_root)? else { return Ok(Recovered::default()) };
        show::runtime()?.block_on(recover(&store, project_root))
    };
    let again = match look() {
        Ok(again) => again,
        Err(failure) => {
            tracing::warn!("what dead runs left could not be looked for again: {failure}");
            return !left.stuck.is_empty();
        }
    };
    tell_stuck(again.stuck.iter().filter(|(lease, _)| left.stuck.iter().all(|(known, _)| known != lease)));
    !again.stuck.is_empty()
}

/// As [`recover`], waiting for what has to settle.
pub async fn recover_all(store: &Store, project_root: &Path) -> Result<Recovered, Failure> {
    let mut all = Recovered::default();
    loop {
        let recovered = recover(store, project_root).await?;
        all.released.extend(recovered.released);
        all.stuck = recovered.stuck;
        if recovered.settling.is_empty() {
            return Ok(all);
        }
        tokio::time::sleep(SETTLED).await;
    }
}

/// Releases, trying again for a while.
pub async fn give_back(provider: &dyn ComputeProvider, lease: &LeaseId) -> Result<(), Fault> {
    let mut pause = PAUSE;
    for _ in 1..TRIES {
        match provider.release(lease).await {
            Ok(()) => return Ok(()),
            Err(fault) => tracing::debug!(%lease, "not given back yet: {}", fault.message),
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    provider.release(lease).await
}

/// Tells what was done, and loudly what could not be.
pub fn tell(global: &Global, recovered: &Recovered) {
    if global.format == Format::Text && !global.quiet {
        for lease in recovered.released.iter().chain(&recovered.settling) {
            eprintln!("the runner {lease} of a run that died was given back");
        }
    }
    tell_stuck(recovered.stuck.iter());
}

fn tell_stuck<'a>(stuck: impl Iterator<Item = &'a (LeaseId, String)>) {
    for (lease, why) in stuck {
        eprintln!("lian::leases::stuck: the runner {lease} could not be given back, and may still be billed: {why}");
        eprintln!("  help: mend that, then type `lian-build leases gc`; every apply tries again, too");
    }
}

/// One line for commands that rent nothing, where something waits to be given back.
pub fn remind(folder: &Path) {
    let Ok(Some(store)) = Store::open_existing(folder) else { return };
    let waiting = store.open_leases().unwrap_or_default().into_iter().filter(|lease| !lease.alive).count();
    if waiting > 0 {
        let runners = crate::report::count(waiting, "runner");
        eprintln!("{runners} of dead runs wait to be given back: lian-build leases gc");
    }
}
