//! Reads the ledger: every requested runner until it is released. Not responsible for: releasing it.

use rusqlite::params;

use super::error::StoreError;
use super::lease_rows::forget;
use super::rows::millis;
use super::runs::Store;
use crate::domain::base::{LeaseId, RunId, Timestamp};

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
    /// Whether its run is alive; that run releases it.
    pub alive: bool,
}

impl Store {
    /// The leases not yet released, oldest first.
    pub fn open_leases(&self) -> Result<Vec<OpenLease>, StoreError> {
        let sql = "select id, run, provider, runner_type, state, asked, changed from leases order by asked, id";
        let mut statement = self.connection.prepare(sql).map_err(self.fault())?;
        let time = |millis: i64| Timestamp(u64::try_from(millis).unwrap_or(0));
        let rows = statement.query_map([], |row| {
            Ok(OpenLease {
                lease: LeaseId::new(row.get::<_, String>(0)?),
                run: RunId::new(row.get::<_, String>(1)?),
                provider: row.get(2)?,
                runner_type: row.get(3)?,
                state: row.get(4)?,
                asked: time(row.get(5)?),
                changed: time(row.get(6)?),
                alive: false,
            })
        });
        let mut leases = rows.and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(self.fault())?;
        for lease in &mut leases {
            lease.alive = self.is_alive(&lease.run);
        }
        Ok(leases)
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
