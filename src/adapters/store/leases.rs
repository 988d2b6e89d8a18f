//! The ledger: every runner that was asked for, until it is given back. Not responsible for: giving it back.

use rusqlite::{Connection, params};

use super::error::StoreError;
use super::runs::Store;
use super::session::millis;
use crate::domain::base::{LeaseId, RunId, Timestamp};
use crate::domain::ports::LeaseMark;

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

/// Writes how a lease stands; on return it survives a power cut.
pub(super) fn mark(
    connection: &Connection,
    (run, provider): (&RunId, &str),
    at: Timestamp,
    (lease, runner_type): (&LeaseId, Option<&str>),
    mark: LeaseMark,
) -> rusqlite::Result<()> {
    let state = match mark {
        LeaseMark::Asked => "asked",
        LeaseMark::Held => "held",
        LeaseMark::Gone => return forget(connection, lease),
        LeaseMark::Stuck => "stuck",
    };
    let sql = "insert into leases (id, run, provider, runner_type, state, asked, changed)
               values (?1, ?2, ?3, ?4, ?5, ?6, ?6)
               on conflict (id) do update set state = ?5, changed = ?6, runner_type = coalesce(?4, runner_type)";
    durably(connection, || {
        connection.prepare_cached(sql)?.execute(params![
            lease.as_str(),
            run.as_str(),
            provider,
            runner_type,
            state,
            millis(at)
        ])
    })
}

fn forget(connection: &Connection, lease: &LeaseId) -> rusqlite::Result<()> {
    // Should this be lost in a power cut, the lease is given back once more, which does no harm.
    connection.execute("delete from leases where id = ?1", [lease.as_str()]).map(|_| ())
}

/// The rest of the history may lose its last lines in a power cut; a lease must not.
fn durably(connection: &Connection, write: impl FnOnce() -> rusqlite::Result<usize>) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", "full")?;
    let written = write();
    connection.pragma_update(None, "synchronous", "normal")?;
    written.map(|_| ())
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
