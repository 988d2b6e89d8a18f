//! Histories that live, end, fill up, are damaged, and are read by several at once.

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
