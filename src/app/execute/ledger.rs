//! Writes what becomes known of a lease into the run's journal. Not responsible for: what is known (the provider tells).

use std::sync::Arc;

use async_trait::async_trait;

use crate::domain::base::LeaseId;
use crate::domain::model::{Fault, FaultClass, FaultKind};
use crate::domain::ports::{Journal, JournalError, LeaseRecord, RecordKeeper, Resource};
use crate::system::now;

/// The journal as the keeper of the run's lease records.
struct Ledger(Arc<dyn Journal>);

#[async_trait]
impl RecordKeeper for Ledger {
    async fn keep(&self, lease: &LeaseId, resource: &Resource) -> Result<(), Fault> {
        self.0.learned(now(), lease, resource).map_err(|error| unwritten(Some(&error)))
    }
}

/// The record of a new lease of the journal's run.
pub(super) fn record(journal: &Arc<dyn Journal>, lease: &LeaseId) -> LeaseRecord {
    LeaseRecord::kept(lease.clone(), Arc::new(Ledger(Arc::clone(journal))))
}

/// The fault of a lease that cannot be written down.
pub(super) fn unwritten(error: Option<&JournalError>) -> Fault {
    let message = error.map_or_else(String::new, ToString::to_string);
    let help = error.map_or_else(String::new, |error| error.help.clone());
    // The kind stays `Missing` for programs that read it; the class is this machine's fault.
    Fault::new(FaultKind::Missing, "lian::store::journal", message).with_class(FaultClass::Unavailable).help(help)
}
