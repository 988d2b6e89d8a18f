//! Finds runs whose process is gone, and replays their journals for their progress. Not responsible for: releasing
//! their leases (see `app::recover`).

use rusqlite::params;

use super::error::StoreError;
use super::rows::{lock_file, millis};
use super::runs::Store;
use super::session::Tally;
use crate::domain::base::{RunId, Timestamp};
use crate::domain::life::{Effect, Input, Run};
use crate::domain::model::EventBody;
use crate::system::sqlite;

/// A run that died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterruptedRun {
    /// Its id.
    pub id: RunId,
    /// Its progress. `None` if its journal lacks it or was written by another version.
    pub reached: Option<Reached>,
}

/// The progress of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// Number of steps.
    pub steps: usize,
    /// Steps built, reused, failed, and skipped or cancelled.
    pub counts: [usize; 4],
}

impl Store {
    /// Marks runs whose process is gone as interrupted, with their progress.
    pub fn recover(&self, at: Timestamp) -> Result<Vec<InterruptedRun>, StoreError> {
        let mut dead = Vec::new();
        let mut statement =
            self.connection.prepare("select id from runs where state = 'running'").map_err(self.fault())?;
        let ids = statement.query_map([], |row| sqlite::name(row, 0)).map_err(self.fault())?;
        for id in ids.collect::<Result<Vec<_>, _>>().map_err(self.fault())? {
            let id = RunId::new(id);
            if self.is_alive(&id) {
                continue;
            }
            let reached = self.replay(&id);
            let counts = reached.map_or([0; 4], |reached| reached.counts);
            let [built, reused, failed, skipped] = counts.map(|count| i64::try_from(count).unwrap_or(i64::MAX));
            let sql =
                "update runs set state = 'interrupted', ended = ?2, built = ?3, reused = ?4, failed = ?5, skipped = ?6
                       where id = ?1 and state = 'running'";
            let values = params![id.as_str(), millis(at), built, reused, failed, skipped];
            self.connection.execute(sql, values).map_err(self.fault())?;
            let _ = self.folder.remove_file(lock_file(&id));
            dead.push(InterruptedRun { id, reached });
        }
        Ok(dead)
    }

    /// Replays a run's journal for its progress: the initial state, then the inputs in order.
    pub(super) fn replay(&self, id: &RunId) -> Option<Reached> {
        let sql = "select at, kind, json from journal where run = ?1 and kind in ('start', 'input') order by seq";
        let mut statement = self.connection.prepare_cached(sql).ok()?;
        let rows = statement.query_map([id.as_str()], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
        });
        let mut run: Option<Run> = None;
        let mut steps = 0;
        for row in rows.ok()? {
            let (at, kind, json) = row.ok()?;
            if kind == "start" {
                run = Some(serde_json::from_str(&json).ok()?);
                continue;
            }
            let input: Input = serde_json::from_str(&json).ok()?;
            for effect in run.as_mut()?.on(Timestamp(u64::try_from(at).ok()?), input) {
                if let Effect::Emit(body) = effect
                    && let EventBody::RunStarted { build, reuse } = *body
                {
                    steps = build + reuse;
                }
            }
        }
        run.map(|run| Reached { steps, counts: Tally::of(&run).counts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::store::fresh_run_id;
    use crate::domain::base::Digest;
    use crate::domain::life::{Limits, Placement, StepSpec};
    use crate::domain::model::{RunState, Size};
    use crate::domain::ports::{Journal as _, JournalKind};

    fn spec(layer: &str, reuse: bool) -> StepSpec {
        let (runner_type, tier) = ("t".to_owned(), "explicit".to_owned());
        let sizes = vec![Size { runner_type, cpu: 2, memory_gb: 4, time_budget_min: 1, tier }];
        let reuse = reuse.then(|| Digest::of("image"));
        StepSpec { layer: layer.into(), parents: Vec::new(), reuse, place: Placement::default(), sizes }
    }

    #[test]
    fn a_run_that_died_is_told_with_what_its_journal_says_it_had_reached() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path()).expect("a store");
        let id = fresh_run_id();
        let recorder = store.begin(id.clone(), "apply", Timestamp(5)).expect("a run");
        let specs = vec![spec("base", true), spec("tool", true), spec("app", false)];
        let run = Run::new(id.clone(), specs, Limits::default());
        for (kind, json) in [
            (JournalKind::Start, serde_json::to_string(&run).expect("plain data")),
            (JournalKind::Input, serde_json::to_string(&Input::Begin).expect("plain data")),
        ] {
            recorder.append(Timestamp(6), kind, &json).expect("written");
        }
        drop(recorder);
        let listed = store.find("latest").expect("a run");
        assert_eq!(
            (listed.state, listed.reused, listed.built),
            (RunState::Interrupted, 2, 0),
            "before it is recovered"
        );
        let reached = Some(Reached { steps: 3, counts: [0, 2, 0, 0] });
        assert_eq!(store.recover(Timestamp(7)).expect("recovered"), [InterruptedRun { id, reached }]);
        let listed = store.find("latest").expect("a run");
        assert_eq!((listed.state, listed.reused, listed.ended), (RunState::Interrupted, 2, Some(Timestamp(7))));
    }

    #[test]
    fn a_journal_that_cannot_be_read_says_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path()).expect("a store");
        let recorder = store.begin(fresh_run_id(), "apply", Timestamp(5)).expect("a run");
        recorder.append(Timestamp(6), JournalKind::Start, r#"{"steps":"of another version"}"#).expect("written");
        drop(recorder);
        assert_eq!(store.recover(Timestamp(7)).expect("recovered")[0].reached, None);
    }
}
