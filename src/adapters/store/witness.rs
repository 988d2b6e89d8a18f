//! The second lock of a run, on the folder of its logs. The first one is on a file, which somebody may remove or replace
//! while the run lives; its machines must not be given back for that. Not responsible for: the file (see `session`).

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use crate::system::confined::Folder;
use crate::system::lock;

/// Makes the folder of a run's logs and locks it. `None` where the file system has no such locks on folders (NFS).
pub(super) fn of(state: &Folder, logs: &Path) -> std::io::Result<Option<File>> {
    let handle = state.make_folder(logs)?.handle()?;
    Ok(lock::exclusive(&handle).is_ok().then_some(handle))
}

/// Whether the run with these logs lives, as far as its witness knows.
pub(super) fn lives(state: &Folder, logs: &Path) -> bool {
    match state.folder(logs).and_then(|folder| folder.handle()).and_then(|handle| lock::try_shared(&handle)) {
        Ok(free) => !free,
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => {
            tracing::warn!("{} cannot be looked at, so its run counts as alive: {error}", logs.display());
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Store, fresh_run_id};
    use crate::domain::base::Timestamp;

    #[test]
    fn a_run_whose_lock_file_somebody_removed_or_replaced_is_alive() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path()).expect("a store");
        let session = store.begin(fresh_run_id(), "apply", Timestamp(5)).expect("a run");
        let locks = dir.path().join("runs");
        let mut files = std::fs::read_dir(&locks).expect("a folder").map(|entry| entry.expect("an entry").path());
        let path = files.next().expect("its lock");
        let lives = |what: &str| {
            assert!(store.is_alive(session.id()), "{what}");
            assert!(store.recover(Timestamp(6)).expect("recovered").is_empty(), "{what}: it was taken for dead");
        };
        std::fs::remove_file(&path).expect("removed");
        lives("removed");
        std::fs::write(&path, "").expect("a file");
        lives("replaced");
        std::fs::remove_dir_all(&locks).expect("removed");
        lives("removed with its folder");
        let id = session.id().clone();
        drop(session);
        let recovered = store.recover(Timestamp(7)).expect("recovered");
        assert_eq!(recovered.into_iter().map(|run| run.id).collect::<Vec<_>>(), [id]);
    }
}
