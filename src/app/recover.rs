//! Releases the leases of dead runs. Not responsible for: leases of live runs.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};

use super::runners::provider_record::{self, RecordedProvider};
use super::session::Session;
use crate::adapters::store::{OpenLease, Store, StoreError};
use crate::app::Error;
use crate::app::config::Config;
use crate::app::project::Project;
use crate::domain::base::LeaseId;
use crate::domain::model::Fault;
use crate::domain::ports::{ComputeProvider, Gone, LeaseRecord, Resource};
use crate::system::now;
use crate::system::retry::{Backoff, Retry, retry};
use crate::system::user_key::UserKey;

/// An unanswered create call may still take effect at the provider, long after it was recorded: look for its result
/// again after this delay.
const SETTLED: Duration = Duration::from_secs(10);
/// Retry delays; after the last one, a release counts as stuck for this command.
const RELEASE: Backoff = Backoff::of_requests(Duration::from_millis(250), Duration::from_secs(1), 3);

/// How long a command that is there for something else waits for the releases of dead runs: a server that is locked for
/// minutes, or an API that hangs, must not keep each later command from its work.
const LOOK: Duration = Duration::from_secs(10);

/// How many releases go on at once.
const AT_ONCE: usize = 16;

/// The result of recovering the leases of dead runs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Released.
    pub released: Vec<LeaseId>,
    /// Released as far as known; checked again later.
    pub settling: Vec<LeaseId>,
    /// Not released, and why.
    pub stuck: Vec<(LeaseId, String)>,
    /// Not released yet, when the time to wait for it was over.
    pub slow: Vec<LeaseId>,
}

impl Recovered {
    /// Whether something is left that may be billed.
    pub fn is_left(&self) -> bool {
        !self.stuck.is_empty() || !self.slow.is_empty()
    }

    /// Leases that are stuck now and were not at an earlier check.
    pub fn newly_stuck<'a>(&'a self, earlier: &'a Self) -> impl Iterator<Item = &'a (LeaseId, String)> {
        self.stuck.iter().filter(|(lease, _)| earlier.stuck.iter().all(|(known, _)| known != lease))
    }
}

/// Releases every lease of a dead run, each at the provider it was requested from. All at once: one that takes long, or
/// a provider that does not answer, keeps no other one alive. Waits some seconds; what takes longer is for
/// [`recover_all`].
pub async fn recover(store: &Store, config: &Config) -> Result<Recovered, Error> {
    recover_within(store, config, LOOK).await
}

async fn recover_within(store: &Store, config: &Config, look: Duration) -> Result<Recovered, Error> {
    let until = tokio::time::Instant::now().checked_add(look);
    let mut providers: BTreeMap<(String, bool), Result<RecordedProvider, String>> = BTreeMap::new();
    // A key that cannot be used is no key: nothing is this user's own then.
    let key = UserKey::read(config.project.user()).unwrap_or_default();
    let dead = store.open_leases()?.into_iter().filter(|lease| !lease.alive);
    let dead: Vec<_> = dead
        .map(|mut lease| {
            let record = provider_record::unbound(&lease.provider, &lease.lease, key.as_ref());
            let known = provider_record::split(&lease.lease, std::mem::take(&mut lease.known), key.as_ref());
            (lease, record, known)
        })
        .collect();
    for (_, record, _) in &dead {
        let read = || provider_record::read(&record.0, record.1, config).map_err(|failure| failure.to_string());
        providers.entry(record.clone()).or_insert_with(read);
    }
    let providers = &providers;
    let releases = dead.into_iter().map(|(lease, record, known)| async move {
        let released = match &providers[&record] {
            Ok(there) => within(until, unbroken(give_back_there(there, &lease.lease, known))).await,
            Err(why) => Some(Err(why.clone())),
        };
        (lease, released)
    });
    let releases: Vec<_> = futures_util::stream::iter(releases).buffered(AT_ONCE).collect().await;
    let mut recovered = Recovered::default();
    for (lease, released) in releases {
        match released {
            None => recovered.slow.push(lease.lease),
            Some(Ok(found)) if found || is_settled(&lease) => {
                written(store.forget_lease(&lease.lease));
                recovered.released.push(lease.lease);
            }
            Some(Ok(_)) => {
                // A clock that was set back shows a time before the last look: the wait begins anew.
                if lease.state != "settling" || lease.changed > now() {
                    written(store.lease_is_settling(&lease.lease, now()));
                }
                recovered.settling.push(lease.lease);
            }
            Some(Err(why)) => {
                written(store.lease_is_stuck(&lease.lease, now()));
                recovered.stuck.push((lease.lease, why));
            }
        }
    }
    Ok(recovered)
}

/// A release that panics is one that failed: no fault on one lease keeps another alive, and its own stays in the ledger.
async fn unbroken<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| Err("lian-build itself failed at it".to_owned()))
}

/// Work up to a time; `None` if it takes longer. A release can be broken off anywhere: the next one goes on.
async fn within<T>(until: Option<tokio::time::Instant>, work: impl Future<Output = T>) -> Option<T> {
    match until {
        Some(until) => tokio::time::timeout_at(until, work).await.ok(),
        None => Some(work.await),
    }
}

/// An unwritable ledger must not stop the release of other runners: the next command releases these again, which is
/// harmless.
fn written(result: Result<(), StoreError>) {
    if let Err(error) = result {
        tracing::warn!("the ledger of leases: {error}");
    }
}

/// A granted lease is gone once released. A lease that was only requested is checked twice.
fn is_settled(lease: &OpenLease) -> bool {
    lease.state == "held" || (lease.state == "settling" && now().since(lease.changed) >= SETTLED)
}

/// Releases with the current credentials, by what the ledger knows of the lease: the user's own words alone, for a release
/// deletes what they name. If the run used others and nothing of the lease is found, its state is unknown. Returns whether
/// it was found for certain.
async fn give_back_there(
    recorded_provider: &RecordedProvider,
    lease: &LeaseId,
    (own, others): (Vec<Resource>, Vec<Resource>),
) -> Result<bool, String> {
    let RecordedProvider { provider, elsewhere } = recorded_provider;
    let listed = *elsewhere && provider.owned().await.leases.iter().any(|owned| owned.lease == *lease);
    let gone = give_back(&**provider, lease, &LeaseRecord::read(own)).await.map_err(|fault| fault.message)?;
    if gone == Gone::Absent && !others.is_empty() {
        let named = others.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(format!(
            "the ledger names {named} for it, and bears no mark that you wrote that, so it was left alone: look at it at the \
             provider, then `lian-build leases gc --forget {lease}`"
        ));
    }
    if *elsewhere && !listed && gone == Gone::Absent {
        return Err("it was rented with another token, or at another address, and with these it is not to be found; \
                    use the token of that project"
            .to_owned());
    }
    Ok(*elsewhere)
}

/// Releases the leases of a project's dead runs. Does nothing without a history.
pub fn recover_project(session: &Session) -> Result<Recovered, Error> {
    let Some(store) = session.existing_store()? else { return Ok(Recovered::default()) };
    session.wait(recover(store, session.config()))?
}

/// How many leases of dead runs are still to release.
pub fn waiting(project: &Project) -> usize {
    let Ok(true) = project.has_state() else { return 0 };
    let Ok(Some(store)) = project.read_store() else { return 0 };
    store.open_leases().unwrap_or_default().into_iter().filter(|lease| !lease.alive).count()
}

/// As [`recover`], but waits for each release, and until pending leases settle.
pub async fn recover_all(store: &Store, config: &Config) -> Result<Recovered, Error> {
    let mut all = Recovered::default();
    loop {
        let recovered = recover_within(store, config, Duration::MAX).await?;
        all.released.extend(recovered.released);
        all.stuck = recovered.stuck;
        if recovered.settling.is_empty() {
            return Ok(all);
        }
        tokio::time::sleep(SETTLED).await;
    }
}

/// Releases with retries.
pub async fn give_back(provider: &dyn ComputeProvider, lease: &LeaseId, record: &LeaseRecord) -> Result<Gone, Fault> {
    let judge = |fault: &Fault| {
        tracing::debug!(%lease, "not given back yet: {}", fault.message);
        // Whoever refuses, or says nothing at all, does so again.
        if fault.class().is_refusal() { Retry::Never } else { Retry::Counted(None) }
    };
    retry(RELEASE.pauses(), || provider.release(lease, record), judge).await
}
