//! Opens and migrates the SQLite file. Not responsible for: the meaning of rows.

use std::io::ErrorKind;
use std::path::Path;

use rusqlite::Connection;

use super::error::StoreError;
use crate::system::confined::{self, Folder};
use crate::system::{lock, sqlite};

/// File name of the history.
pub(super) const FILE: &str = "lian.db";
/// Incremented by each migration.
const VERSION: u32 = 5;

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

/// Since version 5: that this user's lian-build wrote a row of `resources`, for this lease; null if it could not be said.
const MARKS: &str = "
alter table resources add column mark text;
";

/// Opens a project's history; creates its folder and tables if missing.
pub fn open(folder: &Folder) -> Result<Connection, StoreError> {
    ignored(folder)?;
    let path = folder.path().join(FILE);
    let database = StoreError::database(&path);
    // One process at a time: SQLite waits for nobody while it changes the journal's mode.
    let _alone = folder.handle().and_then(|handle| lock::exclusive(&handle).map(|()| handle)).ok();
    let connection = sqlite::open(folder, FILE).map_err(StoreError::opening(&path))?;
    // WAL with NORMAL: a commit survives a kill of this process. A power cut may lose the last commits, but not the
    // file.
    connection.pragma_update(None, "journal_mode", "wal").map_err(&database)?;
    connection.pragma_update(None, "synchronous", "normal").map_err(&database)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(&database)?;
    migrate(&connection, &path)?;
    ours(&connection, &path)?;
    Ok(connection)
}

/// Refuses a history in which somebody else made something: a trigger of theirs would run with our next change.
fn ours(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let schema = [SCHEMA, LEASES, MEASURES, RESOURCES, MARKS].concat();
    match sqlite::holds_only(connection, &schema).map_err(StoreError::database(path))? {
        true => Ok(()),
        false => Err(StoreError::Foreign { path: path.to_owned() }),
    }
}

/// Writes a `.gitignore` for the folder, which a user may have put into the tree. An empty one from an earlier lian-build
/// is replaced if possible.
fn ignored(folder: &Folder) -> Result<(), StoreError> {
    let ignore = ".gitignore";
    let path = folder.path().join(ignore);
    let there = match folder.stat(ignore).map_err(StoreError::io("read", &path))? {
        None => false,
        Some(found) if found.st_size == 0 && folder.is_file(ignore) => true,
        // The user has changed it: leave it alone.
        Some(_) => return Ok(()),
    };
    match folder.write_whole(ignore, b"*\n") {
        Err(error) if !there => Err(StoreError::io("write", &path)(error)),
        _ => Ok(()),
    }
}

/// Opens the folder of a history; `None` if it is not there.
pub fn folder(path: &Path) -> Result<Option<Folder>, StoreError> {
    match confined::open(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        opened => opened.map(Some).map_err(StoreError::io("read", path)),
    }
}

/// Whether this folder has a history, or something in its place.
pub fn is_there(path: &Path) -> Result<bool, StoreError> {
    let Some(folder) = folder(path)? else { return Ok(false) };
    Ok(folder.stat(FILE).map_err(StoreError::io("read", &path.join(FILE)))?.is_some())
}

/// Opens a project's history to read it; `None` if there is none yet. Neither creates nor changes a file.
pub fn open_existing(folder: &Folder) -> Result<Option<Connection>, StoreError> {
    let path = folder.path().join(FILE);
    let database = StoreError::database(&path);
    let Some(connection) = sqlite::open_to_read(folder, FILE).map_err(StoreError::opening(&path))? else {
        return Ok(None);
    };
    let found = version(&connection).map_err(&database)?;
    if found > VERSION {
        return Err(StoreError::Newer { path, found, known: VERSION });
    }
    // An older version is read after a run has migrated it.
    if found < VERSION {
        return Ok(None);
    }
    ours(&connection, &path)?;
    Ok(Some(connection))
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
            let steps = [SCHEMA, LEASES, MEASURES, RESOURCES, MARKS];
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
            let folder = confined::open(dir.path()).expect("a folder");
            drop(open(&folder).expect("a history"));
            assert_eq!(std::fs::read_to_string(&ignore).expect("readable"), after, "from {before:?}");
        }
        let names = std::fs::read_dir(dir.path()).expect("readable").filter_map(Result::ok);
        let names: Vec<_> = names.map(|entry| entry.file_name()).filter(|name| name != ".gitignore").collect();
        assert!(names.iter().all(|name| name.to_string_lossy().starts_with(FILE)), "{names:?}");
    }
}
