//! The ledger: every runner that was asked for, until it is given back. Not responsible for: giving it back.

use rusqlite::params;

use super::error::StoreError;
use super::lease_rows::forget;
use super::rows::millis;
use super::runs::Store;
use crate::domain::base::{LeaseId, RunId, Timestamp};

/// A lease that is not given back yet, as far as the ledger knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenLease {
    /// Its id.
    pub lease: LeaseId,
    /// The run that asked.
    pub run: RunId,
    /// Where it was asked for: settings as JSON.
    pub provider: String,
    /// What was asked for or granted.
    pub runner_type: Option<String>,
    /// `asked`, `held`, `stuck`, or `settling`: looked for once after its run had died.
    pub state: String,
    /// When it was asked for.
    pub asked: Timestamp,
    /// Since when it stands so.
    pub changed: Timestamp,
    /// Whether the run that asked lives: then it gives it back by itself.
    pub alive: bool,
}

impl Store {
    /// The leases that are not given back yet, oldest first.
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

    /// The lease is given back.
    pub fn forget_lease(&self, lease: &LeaseId) -> Result<(), StoreError> {
        forget(&self.connection, lease).map_err(self.fault())
    }

    /// The lease could not be given back.
    pub fn lease_is_stuck(&self, lease: &LeaseId, at: Timestamp) -> Result<(), StoreError> {
        self.lease_stands(lease, "stuck", at)
    }

    /// The lease was looked for, and may still come.
    pub fn lease_is_settling(&self, lease: &LeaseId, at: Timestamp) -> Result<(), StoreError> {
        self.lease_stands(lease, "settling", at)
    }

    fn lease_stands(&self, lease: &LeaseId, state: &str, at: Timestamp) -> Result<(), StoreError> {
        let sql = "update leases set state = ?2, changed = ?3 where id = ?1";
        self.connection.execute(sql, params![lease.as_str(), state, millis(at)]).map_err(self.fault()).map(|_| ())
    }
}
