//! Opens and migrates the SQLite file. Not responsible for: the meaning of rows.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::error::StoreError;
use crate::system::lock;

/// File name of the history.
const FILE: &str = "lian.db";
/// Incremented by each migration.
const VERSION: u32 = 4;

const SCHEMA: &str = "
create table runs (
  id text primary key, started integer not null, ended integer, state text not null, command text not null,
  built integer not null default 0, reused integer not null default 0, failed integer not null default 0,
  skipped integer not null default 0
) strict;
create index runs_started on runs (started);
create table journal (
  run text not null references runs (id) on delete cascade, seq integer not null, at integer not null,
  kind text not null, json text not null, primary key (run, seq)
) strict, without rowid;
create table builds (
  id integer primary key, layer text not null, key text not null, digest text not null, duration_ms integer not null,
  steps integer not null, cached integer not null, runner_type text not null, at integer not null
) strict;
create index builds_layer on builds (layer, at);
";

/// Since version 2: every requested runner until it is released. `provider` holds its settings without secrets.
const LEASES: &str = "
create table leases (
  id text primary key, run text not null, provider text not null, runner_type text, state text not null,
  asked integer not null, changed integer not null
) strict;
";

/// Since version 3: resource use of builds on their runners; null if not measured.
const MEASURES: &str = "
alter table builds add column memory_peak integer;
alter table builds add column memory_limit integer;
alter table builds add column cpu_ms integer;
alter table builds add column phases text;
";

/// Since version 4: what is known of a lease at its provider, one row for each thing that its answers named.
const RESOURCES: &str = "
create table resources (
  lease text not null references leases (id) on delete cascade, kind text not null, id text not null, name text,
  primary key (lease, kind, id)
) strict;
";

/// Opens a project's history; creates its folder and tables if missing.
pub fn open(folder: &Path) -> Result<(Connection, PathBuf), StoreError> {
    std::fs::create_dir_all(folder).map_err(StoreError::io("make", folder))?;
    ignored(folder)?;
    let path = folder.join(FILE);
    let database = StoreError::database(&path);
    // One process at a time: SQLite waits for nobody while it changes the journal's mode.
    let _alone = std::fs::File::open(folder).and_then(|folder| lock::exclusive(&folder).map(|()| folder)).ok();
    let connection = Connection::open(&path).map_err(&database)?;
    connection.busy_timeout(Duration::from_secs(10)).map_err(&database)?;
    // WAL with NORMAL: a commit survives a kill of this process. A power cut may lose the last commits, but not the
    // file.
    connection.pragma_update(None, "journal_mode", "wal").map_err(&database)?;
    connection.pragma_update(None, "synchronous", "normal").map_err(&database)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(&database)?;
    migrate(&connection, &path)?;
    Ok((connection, path))
}

/// Writes a `.gitignore` for the folder, atomically. An empty one from an earlier lian-build is replaced if possible.
fn ignored(folder: &Path) -> Result<(), StoreError> {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    let ignore = folder.join(".gitignore");
    let there = match std::fs::read(&ignore) {
        Ok(text) if text.is_empty() => true,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        // The user has changed it: leave it alone.
        _ => return Ok(()),
    };
    let write = || {
        let mode = std::fs::Permissions::from_mode(0o666);
        let mut file = tempfile::Builder::new().prefix(".gitignore-").permissions(mode).tempfile_in(folder)?;
        file.write_all(b"*\n")?;
        file.as_file().sync_all()?;
        file.persist(&ignore).map_err(|error| error.error)
    };
    match write() {
        Err(error) if !there => Err(StoreError::io("write", &ignore)(error)),
        _ => Ok(()),
    }
}

/// Whether this folder has a history.
pub fn is_there(folder: &Path) -> Result<bool, StoreError> {
    let path = folder.join(FILE);
    crate::system::files::is_there(&path).map_err(StoreError::io("read", &path))
}

/// Opens a project's history to read it; `None` if there is none yet. Neither creates nor changes a file.
pub fn open_existing(folder: &Path) -> Result<Option<(Connection, PathBuf)>, StoreError> {
    let path = folder.join(FILE);
    if !is_there(folder)? {
        return Ok(None);
    }
    let database = StoreError::database(&path);
    // If a WAL exists, another process is writing or was killed while writing: SQLite reads both files. Otherwise
    // even a reader would create one, unless the database is opened as immutable.
    let log = |ending: &str| folder.join(format!("{FILE}{ending}")).exists();
    let immutable = !(log("-wal") && log("-shm"));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let address = format!("file:{}?{}", escaped(&path), if immutable { "immutable=1" } else { "mode=ro" });
    let connection = Connection::open_with_flags(address, flags).map_err(&database)?;
    connection.busy_timeout(Duration::from_secs(10)).map_err(&database)?;
    let found = version(&connection).map_err(&database)?;
    if found > VERSION {
        return Err(StoreError::Newer { path, found, known: VERSION });
    }
    // An older version is read after a run has migrated it.
    Ok((found == VERSION).then_some((connection, path)))
}

/// A path as a SQLite URI.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}

fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.query_row("pragma user_version", [], |row| row.get(0))
}

fn migrate(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let database = StoreError::database(path);
    let found = version(connection).map_err(&database)?;
    if found > VERSION {
        return Err(StoreError::Newer { path: path.to_owned(), found, known: VERSION });
    }
    if found == VERSION {
        return Ok(());
    }
    // Two processes may migrate at the same time: the second finds it done.
    connection.execute_batch("begin immediate").map_err(&database)?;
    let done = version(connection).and_then(|found| match found {
        found if found < VERSION => {
            let steps = [SCHEMA, LEASES, MEASURES, RESOURCES];
            let missing = steps.get(found as usize..).unwrap_or_default().concat();
            connection.execute_batch(&format!("{missing} pragma user_version = {VERSION};"))
        }
        _ => Ok(()),
    });
    connection.execute_batch(if done.is_ok() { "commit" } else { "rollback" }).map_err(&database)?;
    done.map_err(&database)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_ignore_file_is_mended_and_one_with_a_word_in_it_left() {
        let dir = tempfile::tempdir().expect("a folder");
        let ignore = dir.path().join(".gitignore");
        for (before, after) in [(None, "*\n"), (Some(""), "*\n"), (Some("runs\n"), "runs\n")] {
            match before {
                None => assert!(!ignore.exists()),
                Some(text) => std::fs::write(&ignore, text).expect("writable"),
            }
            drop(open(dir.path()).expect("a history"));
            assert_eq!(std::fs::read_to_string(&ignore).expect("readable"), after, "from {before:?}");
        }
        let names = std::fs::read_dir(dir.path()).expect("readable").filter_map(Result::ok);
        let names: Vec<_> = names.map(|entry| entry.file_name()).filter(|name| name != ".gitignore").collect();
        assert!(names.iter().all(|name| name.to_string_lossy().starts_with(FILE)), "{names:?}");
    }
}
