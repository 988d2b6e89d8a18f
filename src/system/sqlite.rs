//! Opens SQLite files as somebody else may have written them: no link is followed, only a regular file of a bounded size
//! is opened, and nothing in it runs. Not
//! responsible for: tables, and what rows mean.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::types::{Type, ValueRef};
use rusqlite::{Connection, OpenFlags, Row};

use super::confined::{Folder, is_name};

/// Bytes of the largest file that is opened.
const MOST_FILE: u64 = 512 << 20;
/// Bytes of the largest text or row.
const MOST_ROW: i32 = 64 << 20;
/// How long somebody else's transaction is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// A file could not be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The file, before SQLite saw it.
    Io(io::Error),
    /// SQLite.
    Sqlite(rusqlite::Error),
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Opens a database to write it; it is made if it is missing. The file, and those that SQLite makes beside it, are for
/// this user only.
pub fn open(folder: &Folder, name: &str) -> Result<Connection, OpenError> {
    for file in beside(name) {
        if folder.stat(&file)?.is_some() {
            let file = folder.lock_file(&file)?;
            bounded(&file)?;
            file.set_permissions(Permissions::from_mode(0o600))?;
        }
    }
    // SQLite gives its other files the mode of this one.
    drop(folder.lock_file(name)?);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    Ok(guarded(Connection::open_with_flags(folder.path().join(name), flags)?)?)
}

/// Opens a database to read it; `None` if it is not there. Neither creates nor changes a file.
pub fn open_to_read(folder: &Folder, name: &str) -> Result<Option<Connection>, OpenError> {
    if folder.stat(name)?.is_none() {
        return Ok(None);
    }
    let [_, log, index] = beside(name);
    // If a WAL exists, another process is writing or was killed while writing: SQLite reads both files. Otherwise
    // even a reader would create one, unless the database is opened as immutable.
    let goes_on = folder.is_file(&log) && folder.is_file(&index);
    for file in beside(name) {
        if folder.stat(&file)?.is_some() {
            bounded(&folder.open_file(&file)?)?;
        }
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let path = folder.path().join(name).display().to_string();
    let path = path.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    let address = format!("file:{path}?{}", if goes_on { "mode=ro" } else { "immutable=1" });
    Ok(Some(guarded(Connection::open_with_flags(address, flags)?)?))
}

/// A database, its write-ahead log, and that one's index.
fn beside(name: &str) -> [String; 3] {
    [name.to_owned(), format!("{name}-wal"), format!("{name}-shm")]
}

fn bounded(file: &std::fs::File) -> io::Result<()> {
    let length = file.metadata()?.len();
    if length > MOST_FILE {
        let text = format!("it has {length} bytes, and lian-build opens at most {MOST_FILE}");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(())
}

/// SQLite's own advice for files that it cannot trust (<https://sqlite.org/security.html>).
fn guarded(connection: Connection) -> rusqlite::Result<Connection> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MOST_ROW)?;
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    Ok(connection)
}

/// Whether the schema holds just these tables, indices and triggers. Anything else was written by somebody else, and a
/// trigger would run with the next change.
pub fn holds_only(connection: &Connection, statements: &str) -> rusqlite::Result<bool> {
    let own = Connection::open_in_memory()?;
    own.execute_batch(statements)?;
    Ok(schema(connection)? == schema(&own)?)
}

fn schema(connection: &Connection) -> rusqlite::Result<Vec<(String, String, String)>> {
    let sql = "select type, name, tbl_name from sqlite_schema order by type, name limit 1000";
    let mut statement = connection.prepare(sql)?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
}

/// The longest id that somebody else may give, bytes.
const LONGEST_ID: usize = 1024;

/// Reads a text that becomes a part of a path, of an address or of a command's arguments. What is no name is refused, as
/// lian-build writes none.
pub fn name(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    let text: String = row.get(column)?;
    checked_name(&text).map_err(|what| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, what.into()))?;
    Ok(text)
}

/// The same, where there may be none.
pub fn optional_name(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<String>> {
    let is_null = row.get_ref(column)? == ValueRef::Null;
    if is_null { Ok(None) } else { name(row, column).map(Some) }
}

/// Refuses to write what could not be read.
pub fn to_be_name(text: &str) -> rusqlite::Result<&str> {
    checked_name(text).map_err(|what| rusqlite::Error::ToSqlConversionFailure(what.into()))
}

/// Reads an id that somebody else gave: names, which may be parted by slashes.
pub fn id(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    let text: String = row.get(column)?;
    checked_id(&text).map_err(|what| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, what.into()))?;
    Ok(text)
}

/// Refuses to write what could not be read.
pub fn to_be_id(text: &str) -> rusqlite::Result<&str> {
    checked_id(text).map_err(|what| rusqlite::Error::ToSqlConversionFailure(what.into()))
}

fn checked_name(text: &str) -> Result<&str, String> {
    if is_name(text) { Ok(text) } else { Err(odd(text)) }
}

fn checked_id(text: &str) -> Result<&str, String> {
    let parts = text.strip_prefix('/').unwrap_or(text);
    if text.len() <= LONGEST_ID && parts.split('/').all(is_id) { Ok(text) } else { Err(odd(text)) }
}

/// Whether a text may be a part of an id: clouds write `:`, `@`, `+` and `=` into theirs.
fn is_id(part: &str) -> bool {
    let sound = |c: char| c.is_ascii_alphanumeric() || "._-:@+=".contains(c);
    !part.is_empty() && !part.starts_with(['.', '-']) && part.chars().all(sound)
}

fn odd(text: &str) -> String {
    format!("`{}` is no id of lian-build's", text.chars().take(80).collect::<String>().escape_debug())
}

#[cfg(test)]
mod id_tests {
    use super::*;

    #[test]
    fn ids_of_others_have_parts_and_lead_nowhere_else() {
        for sound in ["42", "taken/0123-1", "/projects/a/instances/b", "UPID:node:0001:root@pam"] {
            assert_eq!(checked_id(sound), Ok(sound));
        }
        for odd in ["", "/", "a//b", "../x", "a/../b", "a/.b", "-x", "a b", "a\nb", "a?b", &"a".repeat(LONGEST_ID + 1)]
        {
            assert!(checked_id(odd).is_err(), "{odd}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::confined;

    fn told(error: &OpenError) -> String {
        match error {
            OpenError::Io(error) => error.to_string(),
            OpenError::Sqlite(error) => error.to_string(),
        }
    }

    #[test]
    fn what_is_no_file_of_a_bounded_size_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let outside = tempfile::NamedTempFile::new().expect("a file");
        let path = |name: &str| dir.path().join(name);
        std::os::unix::fs::symlink(outside.path(), path("link")).expect("a link");
        std::os::unix::fs::symlink("/dev/zero", path("log-wal")).expect("a link");
        rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .expect("a pipe");
        std::fs::create_dir(path("folder")).expect("a folder");
        std::fs::File::create(path("huge")).and_then(|file| file.set_len(MOST_FILE + 1)).expect("a sparse file");
        std::fs::write(path("log"), "").expect("a file");
        let folder = confined::open(dir.path()).expect("a folder");
        for name in ["link", "log", "pipe", "folder", "huge"] {
            let error = open(&folder, name).expect_err(name);
            assert!(matches!(error, OpenError::Io(_)), "{name}: {}", told(&error));
            let error = open_to_read(&folder, name).expect_err(name);
            assert!(matches!(error, OpenError::Io(_)), "{name}: {}", told(&error));
        }
        assert_eq!(std::fs::read(outside.path()).expect("readable"), b"", "the link was followed");
        assert!(open_to_read(&folder, "none").expect("nothing").is_none());
    }

    #[test]
    fn its_files_are_the_users_only_whatever_the_mode_was() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = confined::open(dir.path()).expect("a folder");
        std::fs::write(dir.path().join("a.db"), "").expect("writable");
        std::fs::set_permissions(dir.path().join("a.db"), Permissions::from_mode(0o666)).expect("ours");
        let connection = open(&folder, "a.db").expect("opened");
        connection.pragma_update(None, "journal_mode", "wal").expect("set");
        connection.execute_batch("create table t (x) strict").unwrap_or_default();
        connection.execute_batch("create table u (x text) strict").expect("written");
        for name in ["a.db", "a.db-wal", "a.db-shm"] {
            let mode = std::fs::metadata(dir.path().join(name)).expect(name).permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn a_schema_with_more_in_it_than_ours_is_told() {
        let own = "create table t (x text) strict; create index i on t (x);";
        let connection = Connection::open_in_memory().expect("opened");
        connection.execute_batch(own).expect("made");
        assert!(holds_only(&connection, own).expect("read"));
        for more in [
            "create trigger g after insert on t begin delete from t; end",
            "create view v as select 1",
            "create table more (x)",
        ] {
            let connection = Connection::open_in_memory().expect("opened");
            connection.execute_batch(&format!("{own} {more}")).expect("made");
            assert!(!holds_only(&connection, own).expect("read"), "{more}");
        }
    }
}
