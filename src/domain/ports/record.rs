//! What is known of a lease at its provider: the ids of what was made for it. Not responsible for: where it is written
//! down, and what the ids mean (the provider knows).

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::domain::base::LeaseId;
use crate::domain::model::Fault;

/// Something that a provider made for a lease, as its answer named it. Only the provider knows what to do with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// The provider's word for its kind: `server`, `ssh_key`.
    pub kind: String,
    /// Its id at the provider.
    pub id: String,
    /// The name that it was made under, if it has one beside its id.
    pub name: Option<String>,
}

impl Resource {
    /// A resource of this kind and id.
    pub fn new(kind: &str, id: impl fmt::Display) -> Self {
        Self { kind: kind.to_owned(), id: id.to_string(), name: None }
    }

    /// The same, with the name that it was made under.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.replace('_', " "), self.id)
    }
}

/// Writes down what becomes known of leases.
#[async_trait]
pub trait RecordKeeper: Send + Sync {
    /// Adds a resource to a lease's record; on return it survives a power cut. Idempotent.
    async fn keep(&self, lease: &LeaseId, resource: &Resource) -> Result<(), Fault>;
}

/// What is known of one lease, shared by all who work on it. A provider adds each id as soon as an answer names it,
/// before anything that can fail; a release goes by these ids. Clones share the record.
#[derive(Clone, Default)]
pub struct LeaseRecord(Arc<Shared>);

#[derive(Default)]
struct Shared {
    known: Mutex<Vec<Resource>>,
    keeper: Option<(LeaseId, Arc<dyn RecordKeeper>)>,
    fault: Mutex<Option<Fault>>,
}

impl LeaseRecord {
    /// The record of a new lease, written down by `keeper`.
    pub fn kept(lease: LeaseId, keeper: Arc<dyn RecordKeeper>) -> Self {
        Self(Arc::new(Shared { keeper: Some((lease, keeper)), ..Shared::default() }))
    }

    /// A record as the ledger has it; what is added is not written down. The default one is empty.
    pub fn read(known: Vec<Resource>) -> Self {
        Self(Arc::new(Shared { known: Mutex::new(known), ..Shared::default() }))
    }

    /// Adds a resource, in memory first: a release in this process goes by it even if it cannot be written down.
    pub async fn learn(&self, resource: Resource) {
        {
            let mut known = locked(&self.0.known);
            if known.contains(&resource) {
                return;
            }
            known.push(resource.clone());
        }
        let Some((lease, keeper)) = &self.0.keeper else { return };
        if let Err(fault) = keeper.keep(lease, &resource).await {
            locked(&self.0.fault).get_or_insert(fault);
        }
    }

    /// All that is known, in the order in which it became known.
    pub fn known(&self) -> Vec<Resource> {
        locked(&self.0.known).clone()
    }

    /// The known resources of one kind.
    pub fn of(&self, kind: &str) -> Vec<Resource> {
        self.known().into_iter().filter(|resource| resource.kind == kind).collect()
    }

    /// Why something could not be written down, if so: the lease must not be used then.
    pub fn fault(&self) -> Option<Fault> {
        locked(&self.0.fault).clone()
    }
}

impl fmt::Debug for LeaseRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LeaseRecord").field(&self.known()).finish()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::domain::model::FaultKind;

    /// Keeps one resource; the disk is full then.
    struct OnePage(Mutex<Vec<Resource>>);

    #[async_trait]
    impl RecordKeeper for OnePage {
        async fn keep(&self, lease: &LeaseId, resource: &Resource) -> Result<(), Fault> {
            assert_eq!(lease.as_str(), "r-1");
            let mut kept = locked(&self.0);
            if kept.is_empty() {
                kept.push(resource.clone());
                return Ok(());
            }
            Err(Fault::new(FaultKind::Missing, "lian::test::full", "no space"))
        }
    }

    /// Learns at once: the keeper of these tests never waits.
    fn learn(record: &LeaseRecord, resource: &Resource) {
        record.learn(resource.clone()).now_or_never().expect("never waits");
    }

    #[test]
    fn what_cannot_be_written_down_is_known_all_the_same_and_told() {
        let page = Arc::new(OnePage(Mutex::default()));
        let record = LeaseRecord::kept(LeaseId::from("r-1"), Arc::clone(&page) as _);
        let (key, server) = (Resource::new("ssh_key", 7), Resource::new("server", 42).named("lian-ann-r-1"));
        learn(&record, &key);
        learn(&record.clone(), &key);
        assert_eq!((record.known().len(), record.fault()), (1, None));
        learn(&record, &server);
        assert_eq!(record.known(), [key.clone(), server.clone()]);
        assert_eq!(record.of("server"), std::slice::from_ref(&server));
        assert_eq!(record.fault().expect("told").code, "lian::test::full");
        assert_eq!(*locked(&page.0), std::slice::from_ref(&key));
        assert_eq!((server.to_string(), key.to_string()), ("server 42".to_owned(), "ssh key 7".to_owned()));
    }
}
