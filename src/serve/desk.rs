//! The state of the pool behind its mutex: the ledger, and the provider calls that run. Not responsible for: what is
//! asked for (see `pool`), the calls themselves (see `provider_calls`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{Mutex, Notify, watch};

use super::error::ServeError;
use super::ledger::Ledger;
use crate::domain::base::LeaseId;
use crate::domain::model::{Fault, FaultKind};
use crate::domain::ports::{RecordKeeper, Resource};

/// State of a task.
#[derive(Debug, Clone)]
pub(super) enum End {
    UnderWay,
    Done,
    Failed(Fault),
}

/// A running provider call for a lease; at most one per lease.
pub(super) struct Work {
    pub cancel: Notify,
    pub end: watch::Sender<End>,
}

/// State behind the mutex: the ledger and the running tasks.
pub(super) struct Desk {
    pub ledger: Ledger,
    pub works: BTreeMap<LeaseId, Arc<Work>>,
    /// Leases whose machine a restarted service could not hold again yet. Nobody else may get it.
    pub unheld: VecDeque<LeaseId>,
    pub stopping: bool,
}

/// The ledger as the keeper of its leases' records.
pub(super) struct Keeper(pub Arc<Mutex<Desk>>);

#[async_trait]
impl RecordKeeper for Keeper {
    async fn keep(&self, lease: &LeaseId, resource: &Resource) -> Result<(), Fault> {
        let (lease, resource) = (lease.clone(), resource.clone());
        let kept = at(&self.0, move |desk| desk.ledger.learn(&lease, &resource)).await;
        kept.map_err(|error| unwritten(&error))
    }
}

impl Desk {
    /// A desk with nothing under way.
    pub fn new(ledger: Ledger) -> Self {
        Self { ledger, works: BTreeMap::new(), unheld: VecDeque::new(), stopping: false }
    }

    /// A new task for a lease.
    pub fn begin(&mut self, id: &LeaseId) -> Arc<Work> {
        let work = Arc::new(Work { cancel: Notify::new(), end: watch::Sender::new(End::UnderWay) });
        self.works.insert(id.clone(), Arc::clone(&work));
        work
    }
}

/// Runs `work` under a mutex, to completion even if the caller goes away. On a blocking thread, because SQLite waits for
/// the disk.
pub(super) async fn at<D: Send + 'static, T: Send + 'static>(
    desk: &Arc<Mutex<D>>,
    work: impl FnOnce(&mut D) -> Result<T, ServeError> + Send + 'static,
) -> Result<T, ServeError> {
    let mut desk = Arc::clone(desk).lock_owned().await;
    let done = tokio::task::spawn_blocking(move || work(&mut desk)).await;
    match done {
        Ok(done) => done,
        // The runtime is shutting down: nobody waits for the result.
        Err(error) if error.is_cancelled() => std::future::pending().await,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// How a task ended, once it has.
pub(super) async fn ended(work: &Work) -> End {
    let mut end = work.end.subscribe();
    let end = end.wait_for(|end| !matches!(end, End::UnderWay)).await;
    end.expect("invariant: the sender is borrowed").clone()
}

/// The fault that callers get when the ledger fails.
pub(super) fn unwritten(error: &ServeError) -> Fault {
    tracing::error!(error = ?error, "the ledger failed");
    Fault::new(FaultKind::Infrastructure, "lian::serve::ledger", "the pool cannot write its ledger")
        .help("try again; the pool's operator finds the cause in the service's log")
}
