//! The runs of a project: begins, lists and finds runs, and removes old ones. Not responsible for: the content of a
//! run (see `session`).

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::{Connection, Row, params};

use super::database;
use super::error::StoreError;
use super::logs;
use super::rows::{RUNS, lock_file, millis, state_word};
use super::session::{RunRecorder, State};
use super::witness;
use crate::domain::base::{Digest, LayerName, RunId, Timestamp};
use crate::domain::model::{RunRecord, RunState};
use crate::system::confined::{self, Folder, is_name};
use crate::system::{lock, since_epoch, sqlite};

/// Maximum number of runs to keep.
const KEEP_RUNS: usize = 50;
/// Maximum bytes of logs to keep.
const KEEP_LOG_BYTES: u64 = 200_000_000;
/// Maximum number of builds to keep per layer.
const KEEP_BUILDS: i64 = 50;
/// Number of recent builds used for an estimate.
const ESTIMATE_FROM: usize = 5;

/// A project's history, in its state folder.
pub struct Store {
    pub(super) folder: Arc<Folder>,
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
}

impl Store {
    /// Opens a project's history; creates it if missing.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let folder = confined::make_private(folder).map_err(StoreError::io("make", folder))?;
        let connection = database::open(&folder)?;
        Ok(Self::of(folder, connection))
    }

    fn of(folder: Folder, connection: Connection) -> Self {
        Self { path: folder.path().join(database::FILE), folder: Arc::new(folder), connection }
    }

    /// Whether a project has a history.
    ///
    /// # Errors
    /// [`StoreError`] if that is not known.
    pub fn is_there(folder: &Path) -> Result<bool, StoreError> {
        database::is_there(folder)
    }

    /// Opens an existing history to read it; creates and changes nothing.
    pub fn open_existing(folder: &Path) -> Result<Option<Self>, StoreError> {
        let Some(folder) = database::folder(folder)? else { return Ok(None) };
        Ok(database::open_existing(&folder)?.map(|connection| Self::of(folder, connection)))
    }

    /// Begins a run under a [`fresh_run_id`]. It is listed from now on, and counts as alive while the recorder
    /// exists.
    pub fn begin(&self, id: RunId, command: &str, at: Timestamp) -> Result<RunRecorder, StoreError> {
        let lock_path = self.folder.path().join(lock_file(&id));
        let made = self.folder.make_folder(RUNS).and_then(|_| self.folder.create_new(lock_file(&id)));
        let lock = made.map_err(StoreError::io("write", &lock_path))?;
        // A short wait at most: a process that checks whether this run lives releases its shared lock at once.
        lock::exclusive(&lock).map_err(StoreError::io("lock", &lock_path))?;
        let connection = database::open(&self.folder)?;
        let sql = "insert into runs (id, started, state, command) values (?1, ?2, 'running', ?3)";
        connection.execute(sql, params![id.as_str(), millis(at), command]).map_err(self.fault())?;
        let logs = log_folder(&id);
        let path = self.folder.path().join(&logs);
        let witness = witness::of(&self.folder, &logs).map_err(StoreError::io("make", &path))?;
        let state = std::sync::Mutex::new(State { connection, seq: 0, provider: None });
        let (folder, database) = (Arc::clone(&self.folder), self.path.clone());
        Ok(RunRecorder { id, state, folder, database, logs, lock, witness })
    }

    /// Runs, newest first: that which began last, whatever the clock showed. A run whose process is gone is reported as
    /// interrupted, with the progress in its journal.
    pub fn runs(&self, limit: usize) -> Result<Vec<RunRecord>, StoreError> {
        let sql = "select id, started, ended, state, command, built, reused, failed, skipped from runs
                   order by rowid desc limit ?1";
        let mut statement = self.connection.prepare(sql).map_err(self.fault())?;
        let rows = statement.query_map([i64::try_from(limit).unwrap_or(i64::MAX)], record).map_err(self.fault())?;
        let mut runs = rows.collect::<Result<Vec<_>, _>>().map_err(self.fault())?;
        for run in &mut runs {
            if run.state == RunState::Running && !self.is_alive(&run.id) {
                run.state = RunState::Interrupted;
                if let Some(reached) = self.replay(&run.id) {
                    [run.built, run.reused, run.failed, run.skipped] = reached.counts;
                }
            }
        }
        Ok(runs)
    }

    /// Finds a run by `latest`, its id, or a prefix of its id.
    pub fn find(&self, wanted: &str) -> Result<RunRecord, StoreError> {
        let mut found: Vec<RunRecord> = match wanted {
            "latest" => self.runs(1)?,
            _ => self.runs(usize::MAX)?.into_iter().filter(|run| run.id.as_str().starts_with(wanted)).collect(),
        };
        if let Some(exact) = found.iter().position(|run| run.id.as_str() == wanted) {
            return Ok(found.swap_remove(exact));
        }
        match found.len() {
            0 => Err(StoreError::UnknownRun { wanted: wanted.to_owned() }),
            1 => Ok(found.swap_remove(0)),
            _ => {
                let names: Vec<&str> = found.iter().take(5).map(|run| run.id.as_str()).collect();
                Err(StoreError::AmbiguousRun { wanted: wanted.to_owned(), candidates: names.join(", ") })
            }
        }
    }

    /// Estimated build time of a layer: the median of its recent builds, in milliseconds.
    pub fn estimate(&self, layer: &LayerName) -> Option<u64> {
        let sql = "select duration_ms from builds where layer = ?1 order by id desc limit ?2";
        let mut statement = self.connection.prepare_cached(sql).ok()?;
        let rows = statement.query_map(params![layer.as_str(), i64::try_from(ESTIMATE_FROM).ok()?], |row| row.get(0));
        let mut durations: Vec<i64> = rows.ok()?.filter_map(Result::ok).collect();
        durations.sort_unstable();
        durations.get(durations.len() / 2).and_then(|middle| u64::try_from(*middle).ok())
    }

    /// The logs of a run, sorted: each layer with its file; only one layer's if named.
    pub fn logs(&self, run: &RunId, layer: Option<&str>) -> Result<Vec<(String, PathBuf)>, StoreError> {
        let folder = log_folder(run);
        let names = self.folder.folder(&folder).and_then(|logs| logs.names()).unwrap_or_default();
        let layer_of =
            |name: OsString| name.to_str()?.strip_suffix(".log").filter(|name| is_name(name)).map(str::to_owned);
        let mut layers: Vec<String> = names.into_iter().filter_map(layer_of).collect();
        if let Some(wanted) = layer {
            if !layers.iter().any(|layer| layer == wanted) {
                let help = match layers.as_slice() {
                    [] => "nothing was built in that run".to_owned(),
                    layers => format!("it has logs of: {}", layers.join(", ")),
                };
                return Err(StoreError::NoLog { run: run.to_string(), layer: wanted.to_owned(), help });
            }
            layers.retain(|layer| layer == wanted);
        }
        let with_path = |layer: String| {
            let path = self.folder.path().join(logs::path(&folder, &layer));
            (layer, path)
        };
        Ok(layers.into_iter().map(with_path).collect())
    }

    /// Opens one layer's log of a run, at its beginning.
    pub fn open_log(&self, run: &RunId, layer: &str) -> Result<File, StoreError> {
        let path = logs::path(&log_folder(run), layer);
        self.folder.open_file(&path).map_err(StoreError::io("read", &self.folder.path().join(path)))
    }

    /// Removes the oldest runs and logs beyond the limits. Returns the bytes of logs removed.
    pub fn prune(&self) -> Result<u64, StoreError> {
        let mut freed = 0;
        let mut bytes = 0;
        for (index, run) in self.runs(usize::MAX)?.into_iter().enumerate() {
            let folder = log_folder(&run.id);
            let size = self.folder_bytes(&folder);
            bytes += size;
            let over = index >= KEEP_RUNS || bytes > KEEP_LOG_BYTES;
            if !over || index == 0 || run.state == RunState::Running {
                continue;
            }
            let _ = self.folder.remove_tree(&folder);
            freed += size;
            if index >= KEEP_RUNS {
                self.connection.execute("delete from runs where id = ?1", [run.id.as_str()]).map_err(self.fault())?;
            }
        }
        let sql = "delete from builds where id in (select id from (
                     select id, row_number() over (partition by layer order by id desc) as place from builds
                   ) where place > ?1)";
        self.connection.execute(sql, [KEEP_BUILDS]).map_err(self.fault())?;
        Ok(freed)
    }

    /// Whether a run's process exists. Only a lock that is free or not there says that it does not, and its witness with
    /// it: whoever cannot look, e.g. for want of file descriptors, knows nothing, and must leave the run's machines alone.
    pub(super) fn is_alive(&self, id: &RunId) -> bool {
        let path = lock_file(id);
        // Only try the lock: if it is held, the run is alive.
        match self.folder.open_file(&path).and_then(|file| lock::try_shared(&file)) {
            Ok(false) => true,
            Ok(true) => witness::lives(&self.folder, &log_folder(id)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => witness::lives(&self.folder, &log_folder(id)),
            Err(error) => {
                tracing::warn!("the lock {} cannot be looked at, so its run counts as alive: {error}", path.display());
                true
            }
        }
    }

    fn folder_bytes(&self, folder: &Path) -> u64 {
        let Ok(folder) = self.folder.folder(folder) else { return 0 };
        let names = folder.names().unwrap_or_default();
        let sizes = names.iter().filter_map(|name| folder.stat(name).ok().flatten());
        sizes.map(|stat| u64::try_from(stat.st_size).unwrap_or(0)).sum()
    }

    pub(super) fn fault(&self) -> impl Fn(rusqlite::Error) -> StoreError + use<> {
        StoreError::database(&self.path)
    }
}

fn record(row: &Row<'_>) -> rusqlite::Result<RunRecord> {
    let word: String = row.get(3)?;
    let all = [RunState::Running, RunState::Success, RunState::Failure, RunState::Cancelled];
    let state = all.into_iter().find(|state| state_word(*state) == word).unwrap_or(RunState::Interrupted);
    let time = |value: i64| Timestamp(u64::try_from(value).unwrap_or(0));
    let count = |index| -> rusqlite::Result<usize> { Ok(usize::try_from(row.get::<_, i64>(index)?).unwrap_or(0)) };
    Ok(RunRecord {
        id: RunId::new(sqlite::name(row, 0)?),
        started: time(row.get(1)?),
        ended: row.get::<_, Option<i64>>(2)?.map(time),
        state,
        command: row.get(4)?,
        built: count(5)?,
        reused: count(6)?,
        failed: count(7)?,
        skipped: count(8)?,
    })
}

/// Eight hex digits, unlikely to repeat in a project: a hash of the time, the process and a counter.
pub fn fresh_run_id() -> RunId {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let (nanos, process) = (since_epoch().as_nanos(), std::process::id());
    let seed = format!("{nanos} {process} {}", MADE.fetch_add(1, Ordering::Relaxed));
    RunId::new(&Digest::of(seed).hex()[..8])
}

/// A run's logs, below the state folder.
fn log_folder(id: &RunId) -> PathBuf {
    Path::new("logs").join(id.as_str())
}

#[cfg(test)]
#[path = "runs_tests.rs"]
mod tests;
