//! The ledger: every lease that was asked for, until it is gone, in a SQLite file that survives a power cut. Not responsible for:
//! asking a provider.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Row as Record, TransactionBehavior, params};

use super::error::ServeError;
use super::machine::{Machine, Row, State};
use super::request::LeaseRequest;
use crate::domain::base::{LeaseId, Timestamp};

/// Raised with each migration.
const VERSION: u32 = 2;
/// A create call that was not answered may still come true at the provider: for so long after a start that finds one, what
/// it may have left is given back again.
const SETTLED: Duration = Duration::from_secs(10);
/// How often, meanwhile.
const SETTLING_PAUSE: Duration = Duration::from_secs(1);
/// Giving a lease back failed so often: somebody should look.
const STUCK_AFTER: u32 = 5;
/// A key is remembered for so long after its lease: a late request with it makes no machine.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// At most so many are remembered.
const REMEMBERED_MOST: u32 = 50_000;
/// The longest pause between two tries to give a lease back.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

const SCHEMA: &str = "
create table leases (
  id text primary key, owner text not null, idempotency_key text not null, workspace text not null, wish text,
  state text not null, asked integer not null, expires integer not null, changed integer not null, machine text,
  remember integer not null default 0, failures integer not null default 0, next_try integer not null default 0,
  fault text, settles integer not null default 0
) strict;
create index leases_state on leases (state, next_try);
pragma user_version = 2;
";
/// To the second version.
const SETTLES: &str = "alter table leases add column settles integer not null default 0; pragma user_version = 2;";
const COLUMNS: &str = "id, owner, idempotency_key, wish, state, asked, expires, machine, failures, fault, settles";

/// How many leases may be.
#[derive(Debug, Clone, Copy)]
pub struct Quota {
    /// In all; 0 is no bound.
    pub all: usize,
    /// For one workspace; 0 is no bound.
    pub workspace: usize,
}

/// What writing a wish down came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// It is written down: the provider may be asked.
    New,
    /// It was asked for before, with the same words.
    Known(Box<Row>),
    /// It was asked for before, with other words.
    Conflict,
    /// There are too many, in all or of the workspace.
    Full(&'static str),
}

/// The open file.
pub struct Ledger {
    connection: Connection,
    path: PathBuf,
}

impl Ledger {
    /// Opens the ledger of a folder, making it where there is none.
    pub fn open(folder: &Path) -> Result<Self, ServeError> {
        let path = folder.join("pool.db");
        let fault = |source| ServeError::Ledger { path: path.clone(), source };
        let connection = Connection::open(&path).map_err(fault)?;
        connection.busy_timeout(Duration::from_secs(10)).map_err(fault)?;
        connection.pragma_update(None, "journal_mode", "wal").map_err(fault)?;
        // Each commit is on the disk before the provider is asked: a power cut forgets no machine.
        connection.pragma_update(None, "synchronous", "full").map_err(fault)?;
        let found: u32 = connection.query_row("pragma user_version", [], |row| row.get(0)).map_err(fault)?;
        match found {
            0 => connection.execute_batch(&format!("begin; {SCHEMA} commit;")).map_err(fault)?,
            1 => connection.execute_batch(&format!("begin; {SETTLES} commit;")).map_err(fault)?,
            VERSION => {}
            found => return Err(ServeError::Newer { path, found, known: VERSION }),
        }
        Ok(Self { connection, path })
    }

    fn fault(&self) -> impl Fn(rusqlite::Error) -> ServeError + use<> {
        let path = self.path.clone();
        move |source| ServeError::Ledger { path: path.clone(), source }
    }

    fn change(&self, sql: &str, values: impl rusqlite::Params) -> Result<usize, ServeError> {
        self.connection.prepare_cached(sql).and_then(|mut found| found.execute(values)).map_err(self.fault())
    }

    fn rows(&self, condition: &str, values: impl rusqlite::Params) -> Result<Vec<Row>, ServeError> {
        let sql = format!("select {COLUMNS} from leases where {condition} order by asked, id");
        let mut statement = self.connection.prepare_cached(&sql).map_err(self.fault())?;
        let rows = statement.query_map(values, read).map_err(self.fault())?;
        rows.collect::<Result<_, _>>().map_err(self.fault())
    }

    /// Writes down that a lease is about to be asked for.
    pub fn ask(&mut self, row: &Row, quota: Quota) -> Result<Asked, ServeError> {
        let fault = self.fault();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(&fault)?;
        let asked = ask(&transaction, row, quota).map_err(&fault)?;
        transaction.commit().map_err(&fault)?;
        Ok(asked)
    }

    /// A lease, gone ones included.
    pub fn get(&self, id: &LeaseId) -> Result<Option<Row>, ServeError> {
        Ok(self.rows("id = ?1", [id.as_str()])?.pop())
    }

    /// The leases that are not gone, oldest first.
    pub fn list(&self) -> Result<Vec<Row>, ServeError> {
        self.rows("state <> 'released'", [])
    }

    /// The provider granted it. False where it is not wanted any more.
    pub fn hold(&self, id: &LeaseId, machine: &Machine, at: Timestamp) -> Result<bool, ServeError> {
        let machine = serde_json::to_string(machine).expect("invariant: a machine is plain data");
        let sql = "update leases set state = 'held', machine = ?2, changed = ?3 where id = ?1 and state = 'asked'";
        Ok(self.change(sql, params![id.as_str(), machine, millis(at)])? == 1)
    }

    /// The provider did not grant it: what it may have made is given back, and the key may be used again.
    pub fn refuse(&self, id: &LeaseId, at: Timestamp) -> Result<(), ServeError> {
        let sql =
            "update leases set state = 'releasing', next_try = ?2, changed = ?2 where id = ?1 and state = 'asked'";
        self.change(sql, params![id.as_str(), millis(at)]).map(|_| ())
    }

    /// Its caller is done with it, or never asked for it: no late request with its key makes a machine.
    pub fn give_back(&self, row: &Row) -> Result<(), ServeError> {
        let sql = "insert into leases (id, owner, idempotency_key, workspace, state, asked, expires, changed, remember)
                   values (?1, ?2, ?3, '', 'released', ?4, ?4, ?4, 1)
                   on conflict (id) do update set remember = 1, next_try = ?4, changed = ?4,
                     state = case state when 'released' then 'released' when 'stuck' then 'stuck' else 'releasing' end";
        self.change(sql, params![row.id.as_str(), row.owner, row.key, millis(row.asked)]).map(|_| ())
    }

    /// It is gone, or as good as: what may still come true is given back once more a little later.
    pub fn released(&self, id: &LeaseId, at: Timestamp) -> Result<(), ServeError> {
        let settling = "update leases set state = 'releasing', fault = null, changed = ?2, next_try = min(?3, settles)
                        where id = ?1 and settles > ?2";
        if self.change(settling, params![id.as_str(), millis(at), millis(at.plus(SETTLING_PAUSE))])? == 1 {
            return Ok(());
        }
        self.change("delete from leases where id = ?1 and remember = 0", [id.as_str()])?;
        let sql = "update leases set state = 'released', fault = null, changed = ?2 where id = ?1";
        self.change(sql, params![id.as_str(), millis(at)]).map(|_| ())
    }

    /// Giving it back failed: it is tried again later.
    pub fn release_failed(&self, id: &LeaseId, why: &str, at: Timestamp) -> Result<(), ServeError> {
        let failures = self.get(id)?.map_or(0, |row| row.failures) + 1;
        let pause = Duration::from_secs(1 << failures.min(16)).min(LONGEST_PAUSE);
        let state = if failures >= STUCK_AFTER { State::Stuck } else { State::Releasing };
        let sql = "update leases set state = ?2, failures = ?3, fault = ?4, next_try = ?5, changed = ?6 where id = ?1";
        let (next, changed) = (millis(at.plus(pause)), millis(at));
        self.change(sql, params![id.as_str(), state.as_str(), failures, why, next, changed]).map(|_| ())
    }

    /// It lives longer, or shorter. False where nobody holds it.
    pub fn renew(&self, id: &LeaseId, expires: Timestamp) -> Result<bool, ServeError> {
        let sql = "update leases set expires = ?2 where id = ?1 and state = 'held'";
        Ok(self.change(sql, params![id.as_str(), millis(expires)])? == 1)
    }

    /// What is over is to be given back: how many.
    pub fn expire(&self, at: Timestamp) -> Result<usize, ServeError> {
        let sql = "update leases set state = 'releasing', remember = 1, next_try = ?1, changed = ?1
                   where state in ('asked', 'held') and expires <= ?1";
        self.change(sql, [millis(at)])
    }

    /// What is to be given back now.
    pub fn due(&self, at: Timestamp) -> Result<Vec<Row>, ServeError> {
        self.rows("state in ('releasing', 'stuck') and next_try <= ?1", [millis(at)])
    }

    /// What was asked for and never answered, by a process that is gone, is to be given back.
    pub fn recover(&self, at: Timestamp) -> Result<usize, ServeError> {
        let settles = millis(at.plus(SETTLED));
        self.change("update leases set state = 'releasing', settles = ?1 where state = 'asked'", [settles])?;
        self.change("update leases set next_try = ?1 where state in ('releasing', 'stuck')", [millis(at)])
    }

    /// Forgets keys whose leases are long gone.
    pub fn forget(&self, at: Timestamp) -> Result<(), ServeError> {
        let before = at.0.saturating_sub(u64::try_from(REMEMBERED.as_millis()).unwrap_or(u64::MAX));
        let old = "delete from leases where state = 'released' and changed < ?1";
        self.change(old, [millis(Timestamp(before))])?;
        let many = "delete from leases where state = 'released' and id not in
                    (select id from leases where state = 'released' order by changed desc limit ?1)
                    and (select count(*) from leases where state = 'released') > ?1";
        self.change(many, [REMEMBERED_MOST]).map(|_| ())
    }

    /// How many leases stand how.
    pub fn counts(&self) -> Result<BTreeMap<String, u64>, ServeError> {
        let sql = "select state, count(*) from leases where state <> 'released' group by state";
        let mut statement = self.connection.prepare_cached(sql).map_err(self.fault())?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())));
        rows.and_then(Iterator::collect).map_err(self.fault())
    }
}

fn ask(connection: &Connection, row: &Row, quota: Quota) -> rusqlite::Result<Asked> {
    let sql = format!("select {COLUMNS} from leases where id = ?1");
    if let Some(known) = connection.query_row(&sql, [row.id.as_str()], read).optional()? {
        let same = known.wish == row.wish || known.wish.is_none();
        return Ok(if same { Asked::Known(Box::new(known)) } else { Asked::Conflict });
    }
    let count = |sql: &str, values: &[&str]| -> rusqlite::Result<usize> {
        connection.query_row(sql, rusqlite::params_from_iter(values), |row| {
            Ok(usize::try_from(row.get::<_, u32>(0)?).unwrap_or(usize::MAX))
        })
    };
    // What is not given back yet counts: it may still cost.
    let all = count("select count(*) from leases where state <> 'released'", &[])?;
    let own = count("select count(*) from leases where state <> 'released' and workspace = ?1", &[row.workspace()])?;
    if quota.all > 0 && all >= quota.all {
        return Ok(Asked::Full("the pool"));
    }
    if quota.workspace > 0 && own >= quota.workspace {
        return Ok(Asked::Full("the workspace"));
    }
    let wish = serde_json::to_string(&row.wish).expect("invariant: a wish is plain data");
    let sql = "insert into leases (id, owner, idempotency_key, workspace, wish, state, asked, expires, changed)
               values (?1, ?2, ?3, ?4, ?5, 'asked', ?6, ?7, ?6)";
    let (asked, expires) = (millis(row.asked), millis(row.expires));
    connection.execute(sql, params![row.id.as_str(), row.owner, row.key, row.workspace(), wish, asked, expires])?;
    Ok(Asked::New)
}

fn read(record: &Record<'_>) -> rusqlite::Result<Row> {
    let time = |column: usize| Ok::<_, rusqlite::Error>(Timestamp(record.get::<_, i64>(column)?.unsigned_abs()));
    let wish: Option<String> = record.get(3)?;
    let machine: Option<String> = record.get(7)?;
    Ok(Row {
        id: LeaseId::new(record.get::<_, String>(0)?),
        owner: record.get(1)?,
        key: record.get(2)?,
        wish: wish.and_then(|text| serde_json::from_str::<Option<LeaseRequest>>(&text).ok().flatten()),
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
