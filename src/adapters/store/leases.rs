//! Reads the ledger: every requested runner until it is released. Not responsible for: releasing it.

use rusqlite::params;

use super::error::StoreError;
use super::lease_rows::forget;
use super::rows::millis;
use super::runs::Store;
use crate::domain::base::{LeaseId, RunId, Timestamp};
use crate::domain::ports::Resource;
use crate::system::sqlite;

/// A lease that the ledger lists as not yet released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenLease {
    /// Its id.
    pub lease: LeaseId,
    /// The run that requested it.
    pub run: RunId,
    /// The provider's settings as JSON.
    pub provider: String,
    /// The requested or granted runner.
    pub runner_type: Option<String>,
    /// `asked`, `held`, `stuck`, or `settling`: checked once after its run had died.
    pub state: String,
    /// When it was requested.
    pub asked: Timestamp,
    /// Time of its last state change.
    pub changed: Timestamp,
    /// What is known of it at its provider; empty if the request was never answered, or if an older version wrote it.
    pub known: Vec<Known>,
    /// Whether its run is alive; that run releases it.
    pub alive: bool,
}

/// Something that a provider made for a lease, as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// What it is.
    pub resource: Resource,
    /// The mark of whoever wrote it down; `None` if an older version did.
    pub mark: Option<String>,
}

impl Store {
    /// The leases not yet released, oldest first.
    pub fn open_leases(&self) -> Result<Vec<OpenLease>, StoreError> {
        let sql = "select id, run, provider, runner_type, state, asked, changed from leases order by asked, id";
        let mut statement = self.connection.prepare(sql).map_err(self.fault())?;
        let time = |millis: i64| Timestamp(u64::try_from(millis).unwrap_or(0));
        let rows = statement.query_map([], |row| {
            Ok(OpenLease {
                lease: LeaseId::new(sqlite::name(row, 0)?),
                run: RunId::new(sqlite::name(row, 1)?),
                provider: row.get(2)?,
                runner_type: row.get(3)?,
                state: row.get(4)?,
                asked: time(row.get(5)?),
                changed: time(row.get(6)?),
                known: Vec::new(),
                alive: false,
            })
        });
        let mut leases = rows.and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(self.fault())?;
        for lease in &mut leases {
            lease.alive = self.is_alive(&lease.run);
            lease.known = self.known_of(&lease.lease)?;
        }
        Ok(leases)
    }

    fn known_of(&self, lease: &LeaseId) -> Result<Vec<Known>, StoreError> {
        let sql = "select kind, id, name, mark from resources where lease = ?1 order by rowid";
        let mut statement = self.connection.prepare_cached(sql).map_err(self.fault())?;
        let rows = statement.query_map([lease.as_str()], |row| {
            let (kind, id, name) = (sqlite::name(row, 0)?, sqlite::id(row, 1)?, sqlite::optional_name(row, 2)?);
            Ok(Known { resource: Resource { kind, id, name }, mark: row.get(3)? })
        });
        rows.and_then(Iterator::collect).map_err(self.fault())
    }

    /// Marks the lease as released.
    pub fn forget_lease(&self, lease: &LeaseId) -> Result<(), StoreError> {
        forget(&self.connection, lease).map_err(self.fault())
    }

    /// Marks the lease as stuck: it could not be released.
    pub fn lease_is_stuck(&self, lease: &LeaseId, at: Timestamp) -> Result<(), StoreError> {
        self.lease_stands(lease, "stuck", at)
    }

    /// Marks the lease as settling: it was not found, but the create call may still land.
    pub fn lease_is_settling(&self, lease: &LeaseId, at: Timestamp) -> Result<(), StoreError> {
        self.lease_stands(lease, "settling", at)
    }

    fn lease_stands(&self, lease: &LeaseId, state: &str, at: Timestamp) -> Result<(), StoreError> {
        let sql = "update leases set state = ?2, changed = ?3 where id = ?1";
        self.connection.execute(sql, params![lease.as_str(), state, millis(at)]).map_err(self.fault()).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::store::{RentedFrom, RunRecorder, fresh_run_id};
    use crate::domain::ports::{Journal as _, LeaseMark};

    fn rented(store: &Store) -> (RunRecorder, LeaseId) {
        let recorder = store.begin(fresh_run_id(), "apply", Timestamp(5)).expect("a run");
        recorder.rents_from(|_: &LeaseId| "{}".to_owned());
        let lease = LeaseId::from("r-1");
        recorder.lease(Timestamp(6), &lease, LeaseMark::Asked, Some("cax11")).expect("written");
        (recorder, lease)
    }

    #[test]
    fn what_is_known_of_a_lease_stays_until_it_is_forgotten_and_a_late_answer_brings_it_back() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path()).expect("a store");
        let (recorder, lease) = rented(&store);
        let (key, server) = (Resource::new("ssh_key", 7), Resource::new("server", 42).named("lian-ann-r-1"));
        for (at, resource) in [(7, &key), (8, &server), (9, &server)] {
            recorder.learned(Timestamp(at), &lease, resource).expect("written");
        }
        recorder.lease(Timestamp(10), &lease, LeaseMark::Held, Some("cax21")).expect("written");
        let other = Store::open(dir.path()).expect("a store");
        let open = other.open_leases().expect("a list").remove(0);
        let known = |open: &OpenLease| open.known.iter().map(|known| known.resource.clone()).collect::<Vec<_>>();
        assert_eq!((open.state.as_str(), known(&open)), ("held", vec![key, server.clone()]));
        other.forget_lease(&lease).expect("forgotten");
        let left = |sql: &str| other.connection.query_row(sql, [], |row| row.get::<_, u32>(0)).expect("a number");
        assert_eq!(left("select count(*) from resources"), 0);
        recorder.learned(Timestamp(11), &lease, &server).expect("written");
        let open = other.open_leases().expect("a list").remove(0);
        assert_eq!((open.state.as_str(), open.run.as_str()), ("asked", recorder.id().as_str()));
        assert_eq!(known(&open), [server]);
    }

    #[test]
    fn an_older_ledger_is_read_and_knows_its_leases_by_name_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path()).expect("a store");
        let (recorder, lease) = rented(&store);
        store.connection.execute_batch("drop table resources; pragma user_version = 3;").expect("made older");
        drop((recorder, store));
        let store = Store::open(dir.path()).expect("migrated");
        let open = store.open_leases().expect("a list").remove(0);
        assert_eq!((open.lease, open.runner_type.as_deref(), open.known), (lease, Some("cax11"), Vec::new()));
    }

    #[test]
    fn a_mark_stays_with_the_name_that_it_was_made_for() {
        struct Marks;
        impl RentedFrom for Marks {
            fn provider(&self, _: &LeaseId) -> String {
                "{}".to_owned()
            }
            fn mark(&self, lease: &LeaseId, resource: &Resource) -> Option<String> {
                Some(format!("{lease} {resource} {:?}", resource.name))
            }
        }
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path()).expect("a store");
        let (recorder, lease) = rented(&store);
        recorder.rents_from(Marks);
        let bare = Resource::new("server", 42);
        let named = bare.clone().named("lian-ann-r-1");
        for (learned, known) in [(&bare, &bare), (&named, &named), (&bare, &named)] {
            recorder.learned(Timestamp(7), &lease, learned).expect("written");
            let open = store.open_leases().expect("a list").remove(0);
            assert_eq!(open.known, [Known { resource: known.clone(), mark: Marks.mark(&lease, known) }]);
        }
    }
}
