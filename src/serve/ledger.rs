//! The ledger: every lease until it is released, in a SQLite file that survives a power cut. Not responsible for:
//! calling a provider.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Row as Record, TransactionBehavior, params};

use super::error::ServeError;
use super::machine::{Machine, Row, State};
use super::request::LeaseRequest;
use crate::domain::base::{LeaseId, Timestamp};
use crate::domain::ports::Resource;
use crate::system::confined::{Folder, is_name};
use crate::system::sqlite::{self, OpenError};

/// File name of the ledger.
pub(super) const LEDGER: &str = "pool.db";
/// Schema version; raise it with each migration.
const VERSION: u32 = 4;
/// How long after a restart leases with an unanswered create call are released again and again: the call may still
/// succeed at the provider.
const SETTLED: Duration = Duration::from_secs(10);
/// Pause between two such releases.
const SETTLING_PAUSE: Duration = Duration::from_secs(1);
/// After this many failed releases a lease is `stuck` and needs an operator.
const STUCK_AFTER: u32 = 5;
/// How long a released lease's key is remembered, so that a late request with it creates no machine.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// Limit on remembered keys of one caller.
const REMEMBERED_MOST: u32 = 10_000;
/// Limit on remembered keys of one caller that no request has used. The oldest are forgotten first: a caller that makes
/// up keys loses his own only.
const UNUSED_MOST: u32 = 256;
/// Longest pause between two release attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

const SCHEMA: &str = "
create table leases (
  id text primary key, owner text not null, idempotency_key text not null, workspace text not null, wish text,
  state text not null, asked integer not null, expires integer not null, changed integer not null, machine text,
  remember integer not null default 0, failures integer not null default 0, next_try integer not null default 0,
  fault text, settles integer not null default 0
) strict;
create index leases_state on leases (state, next_try);
";
/// Migration from version 1 to 2.
const SETTLES: &str = "alter table leases add column settles integer not null default 0;";
/// Since version 3: what is known of a lease at its provider, one row for each thing that its answers named.
const RESOURCES: &str = "
create table resources (
  lease text not null, kind text not null, id text not null, name text, primary key (lease, kind, id)
) strict;
create trigger resources_of_released after update of state on leases when new.state = 'released'
  begin delete from resources where lease = new.id; end;
create trigger resources_of_deleted after delete on leases
  begin delete from resources where lease = old.id; end;
";
/// Since version 4: remembered keys are counted by caller.
const REMEMBERED_BY_OWNER: &str = "
create index leases_owner on leases (owner, changed) where state = 'released';
create index leases_changed on leases (changed) where state = 'released';
";
const COLUMNS: &str = "id, owner, idempotency_key, wish, state, asked, expires, machine, failures, fault, settles";

/// Limits on the number of leases.
#[derive(Debug, Clone, Copy)]
pub struct Quota {
    /// In total; 0 means no limit.
    pub all: usize,
    /// Per workspace; 0 means no limit.
    pub workspace: usize,
    /// Of the caller, in all workspaces; 0 means no limit.
    pub caller: usize,
}

/// Result of recording a lease request.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// Recorded: the provider may be called.
    New,
    /// The key is known, with the same request.
    Known(Box<Row>),
    /// The key is known, with a different request.
    Conflict,
    /// A limit is reached. Names whose: the pool's, the workspace's or the token's.
    Full(&'static str),
}

/// An open ledger.
pub struct Ledger {
    view: LedgerView,
}

/// A ledger to look at. It shows what was committed, and waits for no change that is under way.
pub struct LedgerView {
    connection: Connection,
    path: PathBuf,
}

impl LedgerView {
    /// Opens a ledger that is open already, to look at it.
    pub fn open(folder: &Folder) -> Result<Self, ServeError> {
        let view = Self::to(folder)?;
        view.connection.pragma_update(None, "query_only", true).map_err(view.fault())?;
        Ok(view)
    }

    fn to(folder: &Folder) -> Result<Self, ServeError> {
        let path = folder.path().join(LEDGER);
        match sqlite::open(folder, LEDGER) {
            Ok(connection) => Ok(Self { connection, path }),
            Err(OpenError::Io(error)) => Err(ServeError::io("open", &path)(error)),
            Err(OpenError::Sqlite(source)) => Err(ServeError::Ledger { path, source }),
        }
    }

    fn fault(&self) -> impl Fn(rusqlite::Error) -> ServeError + use<> {
        let path = self.path.clone();
        move |source| ServeError::Ledger { path: path.clone(), source }
    }

    fn rows(&self, condition: &str, values: impl rusqlite::Params) -> Result<Vec<Row>, ServeError> {
        let sql = format!("select {COLUMNS} from leases where {condition} order by asked, id");
        let mut statement = self.connection.prepare_cached(&sql).map_err(self.fault())?;
        let rows = statement.query_map(values, read).map_err(self.fault())?;
        rows.collect::<Result<_, _>>().map_err(self.fault())
    }

    /// A lease by id, including released ones.
    pub fn get(&self, id: &LeaseId) -> Result<Option<Row>, ServeError> {
        Ok(self.rows("id = ?1", [id.as_str()])?.pop())
    }

    /// All leases that are not released, oldest first.
    pub fn list(&self) -> Result<Vec<Row>, ServeError> {
        self.rows("state <> 'released'", [])
    }

    /// Number of leases by state.
    pub fn counts(&self) -> Result<BTreeMap<String, u64>, ServeError> {
        let sql = "select state, count(*) from leases where state <> 'released' group by state";
        let mut statement = self.connection.prepare_cached(sql).map_err(self.fault())?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())));
        rows.and_then(Iterator::collect).map_err(self.fault())
    }
}

impl Deref for Ledger {
    type Target = LedgerView;

    fn deref(&self) -> &LedgerView {
        &self.view
    }
}

impl Ledger {
    /// Opens the ledger in a folder; creates or migrates it if needed.
    pub fn open(folder: &Folder) -> Result<Self, ServeError> {
        let view = LedgerView::to(folder)?;
        let (connection, fault) = (&view.connection, view.fault());
        connection.pragma_update(None, "journal_mode", "wal").map_err(&fault)?;
        // Sync each commit before the provider is called, so that a power cut loses no machine.
        connection.pragma_update(None, "synchronous", "full").map_err(&fault)?;
        let found: u32 = connection.query_row("pragma user_version", [], |row| row.get(0)).map_err(&fault)?;
        let missing = match found {
            0 => format!("{SCHEMA} {RESOURCES} {REMEMBERED_BY_OWNER}"),
            1 => format!("{SETTLES} {RESOURCES} {REMEMBERED_BY_OWNER}"),
            2 => format!("{RESOURCES} {REMEMBERED_BY_OWNER}"),
            3 => REMEMBERED_BY_OWNER.to_owned(),
            VERSION => String::new(),
            found => return Err(ServeError::Newer { path: view.path, found, known: VERSION }),
        };
        let migration = format!("begin; {missing} pragma user_version = {VERSION}; commit;");
        if found < VERSION {
            connection.execute_batch(&migration).map_err(&fault)?;
        }
        if !sqlite::holds_only(connection, &format!("{SCHEMA} {RESOURCES} {REMEMBERED_BY_OWNER}")).map_err(&fault)? {
            return Err(ServeError::Foreign { path: view.path });
        }
        Ok(Self { view })
    }

    fn change(&self, sql: &str, values: impl rusqlite::Params) -> Result<usize, ServeError> {
        self.connection.prepare_cached(sql).and_then(|mut found| found.execute(values)).map_err(self.fault())
    }

    /// Records a lease request, before the provider is called.
    pub fn ask(&mut self, row: &Row, quota: Quota) -> Result<Asked, ServeError> {
        let fault = self.fault();
        let transaction =
            self.view.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&fault)?;
        let asked = ask(&transaction, row, quota).map_err(&fault)?;
        transaction.commit().map_err(&fault)?;
        Ok(asked)
    }

    /// Adds what became known of a lease at its provider.
    pub fn learn(&self, id: &LeaseId, resource: &Resource) -> Result<(), ServeError> {
        let sql = "insert into resources (lease, kind, id, name) values (?1, ?2, ?3, ?4)
                   on conflict (lease, kind, id) do update set name = coalesce(?4, name)";
        let name = |text| sqlite::to_be_name(text).map_err(self.fault());
        let called = resource.name.as_deref().map(name).transpose()?;
        self.change(sql, params![id.as_str(), name(&resource.kind)?, name(&resource.id)?, called]).map(|_| ())
    }

    /// What is known of a lease at its provider; empty if an older version wrote it.
    pub fn known(&self, id: &LeaseId) -> Result<Vec<Resource>, ServeError> {
        let sql = "select kind, id, name from resources where lease = ?1 order by rowid";
        let mut statement = self.connection.prepare_cached(sql).map_err(self.fault())?;
        let rows = statement.query_map([id.as_str()], |row| {
            Ok(Resource {
                kind: sqlite::name(row, 0)?,
                id: sqlite::name(row, 1)?,
                name: sqlite::optional_name(row, 2)?,
            })
        });
        rows.and_then(Iterator::collect).map_err(self.fault())
    }

    /// Records that the provider granted the lease. False if the lease is no longer wanted.
    pub fn hold(&self, id: &LeaseId, machine: &Machine, at: Timestamp) -> Result<bool, ServeError> {
        let machine = serde_json::to_string(machine).expect("invariant: a machine is plain data");
        let sql = "update leases set state = 'held', machine = ?2, changed = ?3 where id = ?1 and state = 'asked'";
        Ok(self.change(sql, params![id.as_str(), machine, millis(at)])? == 1)
    }

    /// Records that the provider did not grant the lease: it must be released, and the key may be used again.
    pub fn refuse(&self, id: &LeaseId, at: Timestamp) -> Result<(), ServeError> {
        let sql =
            "update leases set state = 'releasing', next_try = ?2, changed = ?2 where id = ?1 and state = 'asked'";
        self.change(sql, params![id.as_str(), millis(at)]).map(|_| ())
    }

    /// Records a caller's release. The key is remembered even if it is unknown, so that a late request creates no
    /// machine; of those keys the latest of each caller are kept.
    pub fn give_back(&self, row: &Row) -> Result<(), ServeError> {
        let sql = "insert into leases (id, owner, idempotency_key, workspace, state, asked, expires, changed, remember)
                   values (?1, ?2, ?3, '', 'released', ?4, ?4, ?4, 1)
                   on conflict (id) do update set remember = 1, next_try = ?4, changed = ?4,
                     state = case state when 'released' then 'released' when 'stuck' then 'stuck' else 'releasing' end";
        self.change(sql, params![row.id.as_str(), row.owner, row.key, millis(row.asked)])?;
        let unused = "delete from leases where rowid in
                      (select rowid from leases where owner = ?1 and state = 'released' and wish is null
                       order by changed desc, rowid desc limit -1 offset ?2)";
        self.change(unused, params![row.owner, UNUSED_MOST]).map(|_| ())
    }

    /// Released; if a create call may still land, schedules another release.
    pub fn released(&self, id: &LeaseId, at: Timestamp) -> Result<(), ServeError> {
        let settling = "update leases set state = 'releasing', fault = null, changed = ?2, next_try = min(?3, settles)
                        where id = ?1 and settles > ?2";
        if self.change(settling, params![id.as_str(), millis(at), millis(at.plus(SETTLING_PAUSE))])? == 1 {
            return Ok(());
        }
        self.change("delete from leases where id = ?1 and remember = 0", [id.as_str()])?;
        let sql = "update leases set state = 'released', fault = null, changed = ?2 where id = ?1";
        self.change(sql, params![id.as_str(), millis(at)])?;
        let many = "delete from leases where rowid in
                    (select rowid from leases where owner = (select owner from leases where id = ?1) and state = 'released'
                     order by changed desc, rowid desc limit -1 offset ?2)";
        self.change(many, params![id.as_str(), REMEMBERED_MOST]).map(|_| ())
    }

    /// Records a failed release and schedules the next attempt.
    pub fn release_failed(&self, id: &LeaseId, why: &str, at: Timestamp) -> Result<(), ServeError> {
        let failures = self.get(id)?.map_or(0, |row| row.failures) + 1;
        let pause = Duration::from_secs(1 << failures.min(16)).min(LONGEST_PAUSE);
        let state = if failures >= STUCK_AFTER { State::Stuck } else { State::Releasing };
        let sql = "update leases set state = ?2, failures = ?3, fault = ?4, next_try = ?5, changed = ?6 where id = ?1";
        let (next, changed) = (millis(at.plus(pause)), millis(at));
        self.change(sql, params![id.as_str(), state.as_str(), failures, why, next, changed]).map(|_| ())
    }

    /// Sets the expiry of a held lease. False if it is not held.
    pub fn renew(&self, id: &LeaseId, expires: Timestamp) -> Result<bool, ServeError> {
        let sql = "update leases set expires = ?2 where id = ?1 and state = 'held'";
        Ok(self.change(sql, params![id.as_str(), millis(expires)])? == 1)
    }

    /// Marks expired leases for release; returns their number.
    pub fn expire(&self, at: Timestamp) -> Result<usize, ServeError> {
        let sql = "update leases set state = 'releasing', remember = 1, next_try = ?1, changed = ?1
                   where state in ('asked', 'held') and expires <= ?1";
        self.change(sql, [millis(at)])
    }

    /// Leases whose release is due.
    pub fn due(&self, at: Timestamp) -> Result<Vec<Row>, ServeError> {
        self.rows("state in ('releasing', 'stuck') and next_try <= ?1", [millis(at)])
    }

    /// Marks for release what a former process requested without an answer, and makes all pending releases due now.
    pub fn recover(&self, at: Timestamp) -> Result<usize, ServeError> {
        let settles = millis(at.plus(SETTLED));
        self.change("update leases set state = 'releasing', settles = ?1 where state = 'asked'", [settles])?;
        self.change("update leases set next_try = ?1 where state in ('releasing', 'stuck')", [millis(at)])
    }

    /// Deletes remembered keys that are too old.
    pub fn forget(&self, at: Timestamp) -> Result<(), ServeError> {
        let before = at.0.saturating_sub(u64::try_from(REMEMBERED.as_millis()).unwrap_or(u64::MAX));
        let old = "delete from leases where state = 'released' and changed < ?1";
        self.change(old, [millis(Timestamp(before))]).map(|_| ())
    }
}

fn ask(connection: &Connection, row: &Row, quota: Quota) -> rusqlite::Result<Asked> {
    let sql = format!("select {COLUMNS} from leases where id = ?1");
    if let Some(known) = connection.query_row(&sql, [row.id.as_str()], read).optional()? {
        let same = known.lease_request == row.lease_request || known.lease_request.is_none();
        return Ok(if same { Asked::Known(Box::new(known)) } else { Asked::Conflict });
    }
    let count = |sql: &str, values: &[&str]| -> rusqlite::Result<usize> {
        connection.query_row(sql, rusqlite::params_from_iter(values), |row| {
            Ok(usize::try_from(row.get::<_, u32>(0)?).unwrap_or(usize::MAX))
        })
    };
    // Leases still being released count: they may still cost money.
    let all = count("select count(*) from leases where state <> 'released'", &[])?;
    let own = count("select count(*) from leases where state <> 'released' and workspace = ?1", &[row.workspace()])?;
    if quota.all > 0 && all >= quota.all {
        return Ok(Asked::Full("the pool"));
    }
    if quota.workspace > 0 && own >= quota.workspace {
        return Ok(Asked::Full("the workspace"));
    }
    let callers = count("select count(*) from leases where state <> 'released' and owner = ?1", &[&row.owner])?;
    if quota.caller > 0 && callers >= quota.caller {
        return Ok(Asked::Full("the token"));
    }
    let lease_request = serde_json::to_string(&row.lease_request).expect("invariant: a lease_request is plain data");
    let sql = "insert into leases (id, owner, idempotency_key, workspace, wish, state, asked, expires, changed)
               values (?1, ?2, ?3, ?4, ?5, 'asked', ?6, ?7, ?6)";
    let (asked, expires) = (millis(row.asked), millis(row.expires));
    connection
        .execute(sql, params![row.id.as_str(), row.owner, row.key, row.workspace(), lease_request, asked, expires])?;
    Ok(Asked::New)
}

fn read(record: &Record<'_>) -> rusqlite::Result<Row> {
    let time = |column: usize| Ok::<_, rusqlite::Error>(Timestamp(record.get::<_, i64>(column)?.unsigned_abs()));
    let lease_request: Option<String> = record.get(3)?;
    let machine: Option<String> = record.get(7)?;
    let id: String = record.get(0)?;
    if !is_name(&id) {
        let what = format!("`{}` is no id of a lease", id.escape_debug());
        return Err(rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, what.into()));
    }
    Ok(Row {
        id: LeaseId::new(id),
        owner: record.get(1)?,
        key: record.get(2)?,
        lease_request: lease_request
            .and_then(|text| serde_json::from_str::<Option<LeaseRequest>>(&text).ok().flatten()),
        state: State::read(&record.get::<_, String>(4)?),
        asked: time(5)?,
        expires: time(6)?,
        machine: machine.and_then(|text| serde_json::from_str(&text).ok()),
        failures: record.get(8)?,
        fault: record.get(9)?,
        settles: time(10)?,
    })
}

fn millis(at: Timestamp) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}
