//! Reads the history: a project's runs and their build logs. Not responsible for: showing it.

use std::fs::File;
use std::path::PathBuf;

use super::Error;
use super::session::Session;
use crate::adapters::store::{Store, StoreError};
use crate::domain::base::RunId;
use crate::domain::model::RunRecord;

/// The newest run.
const LATEST: &str = "latest";

/// The last runs, newest first.
pub fn runs(session: &Session, limit: usize) -> Result<Vec<RunRecord>, Error> {
    let runs = session.history()?.map(|store| store.runs(limit)).transpose()?;
    Ok(runs.unwrap_or_default())
}

/// The build logs of one run.
pub struct RunLogs {
    /// The run.
    pub run: RunId,
    /// By layer.
    pub logs: Vec<LayerLog>,
    /// The newest run with logs, if this one has none.
    pub last_with_logs: Option<RunId>,
}

/// The build log of one layer.
pub struct LayerLog {
    /// The layer.
    pub layer: String,
    /// Its path.
    pub path: PathBuf,
    /// Open, at its beginning.
    pub file: File,
}

/// The logs of a run, of one layer or all. `run` is an id, a prefix of one, or `latest`: the newest run, and for one
/// layer the newest that built it. The name of a layer alone is that layer's latest build.
pub fn logs(session: &Session, run: &str, layer: Option<&str>) -> Result<RunLogs, Error> {
    let unknown = || StoreError::UnknownRun { wanted: run.to_owned() };
    let store = session.history()?.ok_or_else(unknown)?;
    let (run, layer) = match (store.find(run), layer) {
        (Err(StoreError::UnknownRun { .. }), None) => {
            (last_that_built(store, Some(run))?.ok_or_else(unknown)?, Some(run))
        }
        (found, Some(layer)) if run == LATEST => {
            let last = last_that_built(store, Some(layer))?;
            (last.map_or_else(|| found.map(|found| found.id), Ok)?, Some(layer))
        }
        (found, layer) => (found?.id, layer),
    };
    let mut logs = Vec::new();
    for (layer, path) in store.logs(&run, layer)? {
        let file = store.open_log(&run, &layer)?;
        logs.push(LayerLog { layer, path, file });
    }
    let last_with_logs = if logs.is_empty() { last_that_built(store, None)? } else { None };
    Ok(RunLogs { run, logs, last_with_logs })
}

/// A log could not be read.
pub fn unreadable(path: PathBuf, source: std::io::Error) -> Error {
    StoreError::Io { what: "read", path, source }.into()
}

/// The newest run that built this layer, or anything, and whose log still exists.
fn last_that_built(store: &Store, layer: Option<&str>) -> Result<Option<RunId>, StoreError> {
    for run in store.runs(usize::MAX)? {
        let logs = store.logs(&run.id, None)?;
        if layer.map_or(!logs.is_empty(), |layer| logs.iter().any(|(name, _)| name == layer)) {
            return Ok(Some(run.id));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_run_with_logs_is_known_where_there_is_one() {
        use crate::adapters::store::fresh_run_id;
        use crate::domain::base::Timestamp;
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path()).expect("a store");
        assert_eq!(last_that_built(&store, None).expect("readable"), None);
        let mut built = Vec::new();
        for (at, builds) in [(1, true), (2, true), (3, false)] {
            let id = store.begin(fresh_run_id(), "apply", Timestamp(at)).expect("a run").id().clone();
            if builds {
                let folder = dir.path().join("logs").join(id.as_str());
                std::fs::create_dir_all(&folder).expect("writable");
                std::fs::write(folder.join("app.log"), "text").expect("writable");
                built.push(id);
            }
        }
        assert_eq!(last_that_built(&store, None).expect("readable"), built.pop());
    }
}
