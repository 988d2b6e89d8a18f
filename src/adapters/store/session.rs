//! One active run: its lock, its journal, its leases. Not responsible for: other runs, build logs (see `logs`).

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use rusqlite::{Connection, params};

use super::error::StoreError;
use super::lease_rows::{self, LeaseRow, ResourceRow};
use super::logs::StepLogs;
use super::rows::{lock_file, millis, state_word};
use crate::domain::base::{LeaseId, RunId, Timestamp};
use crate::domain::life::Run;
use crate::domain::model::{Measured, Outcome, RunOutcome, RunState};
use crate::domain::ports::{BuildRecord, Journal, JournalError, JournalKind, LeaseMark, Resource};
use crate::system::confined::Folder;
use crate::system::lock;

/// An active run. It holds the lock file while it exists: a run counts as dead only when the lock is free.
pub struct RunRecorder {
    pub(super) id: RunId,
    pub(super) state: Mutex<State>,
    pub(super) database: PathBuf,
    /// The state folder.
    pub(super) folder: Arc<Folder>,
    /// The folder of its logs, below the state folder.
    pub(super) logs: PathBuf,
    pub(super) lock: File,
    /// The second lock, which tells that the run lives where somebody has removed the file of the first.
    pub(super) witness: Option<File>,
}

/// What stands in the ledger beside leases, and whose it is.
pub trait RentedFrom: Send {
    /// The provider that a lease is rented from, as JSON without secrets.
    fn provider(&self, lease: &LeaseId) -> String;

    /// The mark of this user over something that is known of a lease.
    fn mark(&self, _lease: &LeaseId, _resource: &Resource) -> Option<String> {
        None
    }
}

impl<F: Fn(&LeaseId) -> String + Send> RentedFrom for F {
    fn provider(&self, lease: &LeaseId) -> String {
        self(lease)
    }
}

pub(super) struct State {
    pub connection: Connection,
    pub seq: i64,
    /// The provider of a lease, as JSON without secrets; if `None`, leases are not recorded.
    pub provider: Option<Box<dyn RentedFrom>>,
}

/// The result of a run.
#[derive(Debug, Clone, Copy)]
pub struct Tally {
    /// Its final state.
    pub state: RunState,
    /// Steps built, reused, failed, and skipped or cancelled.
    pub counts: [usize; 4],
}

impl Tally {
    /// The result of a run so far.
    pub fn of(run: &Run) -> Self {
        let count = |outcome| run.count(outcome);
        let skipped = count(Outcome::Skipped) + count(Outcome::Cancelled);
        let state = match run.outcome() {
            RunOutcome::Success => RunState::Success,
            RunOutcome::Failure => RunState::Failure,
            RunOutcome::Cancelled => RunState::Cancelled,
        };
        Self { state, counts: [count(Outcome::Built), count(Outcome::Reused), count(Outcome::Failed), skipped] }
    }
}

impl RunRecorder {
    /// The run.
    pub fn id(&self) -> &RunId {
        &self.id
    }

    /// Sets the provider of each of this run's leases: settings as JSON, without secrets. The ledger records leases from now
    /// on, so that a later command can release those of a dead run.
    pub fn rents_from(&self, provider: impl RentedFrom + 'static) {
        self.state().provider = Some(Box::new(provider));
    }

    /// The sink for this run's build logs. It is closed before the run ends.
    pub fn step_logs(&self) -> StepLogs {
        StepLogs::new(Arc::clone(&self.folder), self.logs.clone())
    }

    /// Records the end of the run and releases its lock.
    pub fn end(&self, at: Timestamp, tally: Tally) -> Result<(), StoreError> {
        let state = self.state();
        let [built, reused, failed, skipped] = tally.counts.map(|count| i64::try_from(count).unwrap_or(i64::MAX));
        let sql =
            "update runs set ended = ?2, state = ?3, built = ?4, reused = ?5, failed = ?6, skipped = ?7 where id = ?1";
        let values = params![self.id.as_str(), millis(at), state_word(tally.state), built, reused, failed, skipped];
        state.connection.execute(sql, values).map_err(StoreError::database(&self.database))?;
        // Remove the file first: a process that opens it later finds a free lock or no file.
        let _ = self.folder.remove_file(lock_file(&self.id));
        let _ = lock::unlock(&self.lock);
        let _ = self.witness.as_ref().map(lock::unlock);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Journal for RunRecorder {
    fn append(&self, at: Timestamp, kind: JournalKind, json: &str) -> Result<(), JournalError> {
        let mut state = self.state();
        let kind = match kind {
            JournalKind::Start => "start",
            JournalKind::Input => "input",
        };
        let seq = state.seq;
        let sql = "insert into journal (run, seq, at, kind, json) values (?1, ?2, ?3, ?4, ?5)";
        let mut statement = state.connection.prepare_cached(sql).map_err(journal(&self.database))?;
        statement.execute(params![self.id.as_str(), seq, millis(at), kind, json]).map_err(journal(&self.database))?;
        drop(statement);
        state.seq += 1;
        Ok(())
    }

    fn lease(
        &self,
        at: Timestamp,
        lease: &LeaseId,
        mark: LeaseMark,
        runner_type: Option<&str>,
    ) -> Result<(), JournalError> {
        let state = self.state();
        let Some(provider) = &state.provider else { return Ok(()) };
        let row = LeaseRow { lease, run: &self.id, provider: &provider.provider(lease), runner_type };
        lease_rows::mark(&state.connection, row, mark, at).map_err(journal(&self.database))
    }

    fn learned(&self, at: Timestamp, lease: &LeaseId, resource: &Resource) -> Result<(), JournalError> {
        let state = self.state();
        let Some(provider) = &state.provider else { return Ok(()) };
        let row = LeaseRow { lease, run: &self.id, provider: &provider.provider(lease), runner_type: None };
        let resource = ResourceRow { resource, mark: provider.mark(lease, resource) };
        lease_rows::learn(&state.connection, row, resource, at).map_err(journal(&self.database))
    }

    fn record(&self, build: &BuildRecord) -> Result<(), JournalError> {
        let sql = "insert into builds
                     (layer, key, digest, duration_ms, steps, cached, runner_type, at, memory_peak, memory_limit, cpu_ms,
                      phases)
                   values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
        let counted =
            |of: fn(&Measured) -> u64| build.measured.as_ref().map(|all| i64::try_from(of(all)).unwrap_or(i64::MAX));
        let values = params![
            build.layer.as_str(),
            build.key.to_string(),
            build.digest.as_str(),
            i64::try_from(build.duration.as_millis()).unwrap_or(i64::MAX),
            build.steps,
            build.cached,
            build.runner_type,
            millis(build.at),
            counted(|all| all.memory_peak),
            counted(|all| all.memory_limit),
            counted(|all| all.cpu_ms),
            serde_json::to_string(&build.phases).expect("invariant: names and numbers are JSON"),
        ];
        self.state().connection.execute(sql, values).map_err(journal(&self.database))?;
        Ok(())
    }
}

/// The error for a failed journal write, with its remedy.
fn journal(path: &Path) -> impl Fn(rusqlite::Error) -> JournalError {
    let wrap = StoreError::database(path);
    move |source| {
        let cause = source.to_string();
        let error = wrap(source);
        let help = miette::Diagnostic::help(&error).map_or_else(String::new, |help| help.to_string());
        JournalError { message: format!("{error}: {cause}"), help }
    }
}
