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
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::adapters::store::Tally;
    use crate::domain::ports::{BuildRecord, Journal as _, JournalKind};

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path()).expect("a store");
        (dir, store)
    }

    #[test]
    fn a_run_is_alive_as_long_as_its_session_is() {
        let (_dir, store) = store();
        let session = store.begin(fresh_run_id(), "apply", Timestamp(5)).expect("a run");
        assert!(store.recover(Timestamp(6)).expect("recovered").is_empty(), "a living run was taken for dead");
        assert_eq!(store.find("latest").expect("a run").state, RunState::Running);
        let id = session.id().clone();
        drop(session);
        assert_eq!(store.find(&id.as_str()[..4]).expect("a run").state, RunState::Interrupted);
        let recovered = store.recover(Timestamp(7)).expect("recovered");
        assert_eq!(recovered.into_iter().map(|run| run.id).collect::<Vec<_>>(), [id]);
        assert_eq!(store.find("latest").expect("a run").ended, Some(Timestamp(7)));
    }

    #[test]
    fn whoever_cannot_look_at_a_lock_does_not_call_its_run_dead() {
        let (dir, store) = store();
        let session = store.begin(fresh_run_id(), "apply", Timestamp(5)).expect("a run");
        let path = dir.path().join(lock_file(session.id()));
        let aside = path.with_extension("aside");
        std::fs::rename(&path, &aside).expect("renamed");
        // As good as EMFILE: it is there, and opening it fails.
        std::os::unix::fs::symlink(&path, &path).expect("a link to itself");
        assert!(store.is_alive(session.id()), "taken for dead");
        assert!(store.recover(Timestamp(6)).expect("recovered").is_empty(), "a living run was taken for dead");
        std::fs::remove_file(&path).expect("removed");
        std::fs::rename(&aside, &path).expect("renamed");
        drop(session);
        assert_eq!(store.recover(Timestamp(7)).expect("recovered").len(), 1);
    }

    #[test]
    fn the_latest_run_is_the_one_that_began_last_though_the_clock_was_set_back() {
        let (_dir, store) = store();
        for (at, id) in [(Timestamp(9_000_000), "aa"), (Timestamp(5), "bb")] {
            drop(store.begin(RunId::new(id), "apply", at).expect("a run"));
        }
        assert_eq!(store.find("latest").expect("a run").id.as_str(), "bb");
    }

    #[test]
    fn an_ended_run_stays_what_it_was() {
        let (_dir, store) = store();
        let session = store.begin(fresh_run_id(), "apply", Timestamp(5)).expect("a run");
        session.append(Timestamp(6), JournalKind::Input, "{}").expect("written");
        session.end(Timestamp(9), Tally { state: RunState::Success, counts: [2, 1, 0, 0] }).expect("ended");
        drop(session);
        assert!(store.recover(Timestamp(10)).expect("recovered").is_empty());
        let run = store.find("latest").expect("a run");
        assert_eq!((run.state, run.built, run.reused, run.ended), (RunState::Success, 2, 1, Some(Timestamp(9))));
    }

    #[test]
    fn an_estimate_is_the_median_of_the_last_builds() {
        let (_dir, store) = store();
        let layer = LayerName::from("app");
        assert_eq!(store.estimate(&layer), None);
        let session = store.begin(fresh_run_id(), "apply", Timestamp(5)).expect("a run");
        for (at, seconds) in [(1, 900), (2, 10), (3, 30), (4, 20), (5, 50), (6, 40)] {
            session
                .record(&BuildRecord {
                    layer: layer.clone(),
                    key: crate::domain::model::LayerKey(Digest::of("k")),
                    digest: Digest::of("d"),
                    duration: Duration::from_secs(seconds),
                    phases: [("building".to_owned(), seconds * 1000)].into(),
                    steps: 1,
                    cached: 0,
                    runner_type: "local".into(),
                    measured: None,
                    at: Timestamp(at),
                })
                .expect("recorded");
        }
        assert_eq!(store.estimate(&layer), Some(30_000));
    }

    #[test]
    fn two_processes_worth_of_stores_open_and_write_at_once() {
        let dir = tempfile::tempdir().expect("a folder");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let store = Store::open(dir.path()).expect("a store");
                    let session = store.begin(fresh_run_id(), "apply", Timestamp(1)).expect("a run");
                    for _ in 0..50 {
                        session.append(Timestamp(2), JournalKind::Input, "{}").expect("written");
                    }
                });
            }
        });
        assert_eq!(Store::open(dir.path()).expect("a store").runs(10).expect("runs").len(), 4);
    }

    #[test]
    fn a_history_is_made_once_however_many_open_it_at_once() {
        for _ in 0..40 {
            let (dir, start) = (tempfile::tempdir().expect("a folder"), std::sync::Barrier::new(8));
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        start.wait();
                        drop(Store::open(dir.path()).expect("a store"));
                    });
                }
            });
        }
    }

    #[test]
    fn old_runs_are_forgotten_and_the_newest_kept() {
        let (dir, store) = store();
        for at in 0..u64::try_from(KEEP_RUNS).expect("small") + 5 {
            let session = store.begin(fresh_run_id(), "apply", Timestamp(at)).expect("a run");
            let folder = dir.path().join("logs").join(session.id().as_str());
            std::fs::create_dir_all(&folder).expect("writable");
            std::fs::write(folder.join("app.log"), "text").expect("writable");
            session.end(Timestamp(at), Tally { state: RunState::Success, counts: [1, 0, 0, 0] }).expect("ended");
        }
        assert_eq!(store.prune().expect("pruned"), 5 * 4);
        assert_eq!(store.runs(usize::MAX).expect("runs").len(), KEEP_RUNS);
    }

    #[test]
    fn a_damaged_history_says_what_to_do() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("lian.db"), "no database at all, but long enough to be read").expect("writable");
        let error = Store::open(dir.path()).map(|_| ()).expect_err("it was opened");
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
        assert!(miette::Diagnostic::help(&error).expect("help").to_string().contains("keep it"));
        let error = Store::open_existing(dir.path()).map(|_| ()).expect_err("it was opened");
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    }

    #[test]
    fn a_full_disk_says_so() {
        let (_dir, store) = store();
        let pages: i64 = store.connection.query_row("pragma page_count", [], |row| row.get(0)).expect("a number");
        store.connection.pragma_update(None, "max_page_count", pages).expect("set");
        let sql = "insert into runs (id, started, state, command) values ('a', 1, 'success', ?1)";
        let full = store.connection.execute(sql, ["x".repeat(100_000)]).map_err(store.fault()).expect_err("it fitted");
        assert!(matches!(full, StoreError::DiskFull { .. }), "{full:?}");
        store.connection.pragma_update(None, "query_only", true).expect("set");
        let refused = store.connection.execute(sql, ["x"]).map_err(store.fault()).expect_err("it was written");
        assert!(matches!(refused, StoreError::ReadOnly { .. }), "{refused:?}");
    }

    /// Every file below a folder with its content and modification time.
    fn files(folder: &Path) -> std::collections::BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
        let entries = walkdir::WalkDir::new(folder).into_iter().map(|entry| entry.expect("readable"));
        let look = |entry: walkdir::DirEntry| {
            let changed = entry.metadata().expect("readable").modified().expect("a time");
            (entry.path().to_owned(), (std::fs::read(entry.path()).unwrap_or_default(), changed))
        };
        entries.map(look).collect()
    }

    #[test]
    fn reading_makes_and_changes_nothing() {
        let dir = tempfile::Builder::new().prefix("50%#? ").tempdir().expect("a folder");
        assert!(Store::open_existing(dir.path()).expect("nothing").is_none());
        assert_eq!(files(dir.path()).len(), 1, "something was made");
        let store = Store::open(dir.path()).expect("a store");
        let session = store.begin(fresh_run_id(), "apply", Timestamp(5)).expect("a run");
        let alive = Store::open_existing(dir.path()).expect("readable").expect("a store");
        assert_eq!(alive.find("latest").expect("a run").state, RunState::Running, "a run that goes on is not seen");
        drop(alive);
        session.end(Timestamp(9), Tally { state: RunState::Success, counts: [1, 0, 0, 0] }).expect("ended");
        drop((session, store));
        let before = files(dir.path());
        let reader = Store::open_existing(dir.path()).expect("readable").expect("a store");
        assert_eq!(reader.find("latest").expect("a run").state, RunState::Success);
        assert_eq!(reader.estimate(&"app".into()), None);
        assert!(reader.connection.execute("delete from runs", []).is_err(), "it can be written");
        drop(reader);
        assert_eq!(files(dir.path()), before);
    }

    #[test]
    fn old_builds_are_forgotten_layer_by_layer() {
        let (_dir, store) = store();
        let insert = "insert into builds (layer, key, digest, duration_ms, steps, cached, runner_type, at)
                      values (?1, 'k', 'd', 1, 1, 0, 'local', ?2)";
        for at in 0..KEEP_BUILDS + 7 {
            store.connection.execute(insert, params!["app", at]).expect("written");
        }
        store.connection.execute(insert, params!["rare", 0]).expect("written");
        store.prune().expect("pruned");
        let count = |layer: &str| -> (i64, i64) {
            let sql = "select count(*), min(at) from builds where layer = ?1";
            store.connection.query_row(sql, [layer], |row| Ok((row.get(0)?, row.get(1)?))).expect("a number")
        };
        assert_eq!((count("app"), count("rare")), ((KEEP_BUILDS, 7), (1, 0)));
    }
}
