//! Reads and writes `lian.lock`, the pinned digests of external images. Not responsible for: updating a pin.

use std::path::Path;

use super::error::StoreError;
use crate::domain::model::Lock;
use crate::system::catalog_root;
use crate::system::files::write_whole;
use crate::system::read::{self, Cap};

/// Reads the pins; `None` if the file is missing.
pub fn read_lock(path: &Path) -> Result<Option<Lock>, StoreError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let bytes = read::of_project(&catalog_root(folder), path, Cap::Lock);
    let text = match bytes.and_then(read::text) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io("read", path)(error)),
    };
    let fault = |what: String, offset: usize| StoreError::Lock {
        path: path.to_owned(),
        what,
        text: miette::NamedSource::new(path.display().to_string(), text.clone()),
        at: character_at(&text, offset).into(),
    };
    let lock: Lock = serde_json::from_str(&text).map_err(|error| {
        let before: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
        fault(format!("not a lock file: {error}"), before + error.column().saturating_sub(1))
    })?;
    if lock.version != Lock::VERSION {
        let what = format!("version {} of the lock file is not known to this lian-build", lock.version);
        return Err(fault(what, text.find("version").unwrap_or(0)));
    }
    Ok(Some(lock))
}

/// Where the character begins that holds this byte; of an offset behind the end, the last one.
fn character_at(text: &str, offset: usize) -> usize {
    let at = offset.min(text.len().saturating_sub(1));
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// Changes the pins under a lock, so that concurrent changes are not lost.
pub fn change_lock(path: &Path, change: impl FnOnce(&mut Lock)) -> Result<(), StoreError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Lock the folder, because each write replaces the file.
    let guard = std::fs::File::open(folder).map_err(StoreError::io("open", folder))?;
    crate::system::lock::exclusive(&guard).map_err(StoreError::io("lock", folder))?;
    let mut lock = read_lock(path)?.unwrap_or_default();
    change(&mut lock);
    write_lock(path, &lock)
}

/// Writes the pins atomically.
fn write_lock(path: &Path, lock: &Lock) -> Result<(), StoreError> {
    let mut json = serde_json::to_string_pretty(lock).expect("invariant: a lock is plain data");
    json.push('\n');
    // `lian.lock` is a project file: everyone may read it.
    write_whole(path, json.as_bytes(), 0o644).map_err(StoreError::io("write", path))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::domain::base::Digest;
    use crate::domain::base::mutated::mutated_json;
    use crate::domain::model::Pin;

    proptest! {
        #[test]
        fn any_bytes_are_a_lock_or_a_fault_with_its_place(bytes in mutated_json(vec![json!({"version": 1, "images":
            {"docker.io/library/debian:trixie": {"digest": Digest::of("x"), "on_build": ["RUN \u{fc}"]}}})])) {
            let dir = tempfile::tempdir().expect("a folder");
            let path = dir.path().join("lian.lock");
            std::fs::write(&path, &bytes).expect("writable");
            match read_lock(&path) {
                Ok(lock) => {
                    let lock = lock.expect("it is there");
                    write_lock(&path, &lock).expect("what was read can be written");
                    prop_assert_eq!(read_lock(&path).expect("sound"), Some(lock));
                }
                Err(StoreError::Lock { text, at, .. }) => {
                    prop_assert!(text.inner().is_char_boundary(at.offset()), "{at:?} of {text:?}");
                }
                Err(_) => prop_assert!(std::str::from_utf8(&bytes).is_err()),
            }
        }
    }

    /// A column is counted in bytes, and what is odd there may have several.
    #[test]
    fn the_place_of_a_fault_is_where_a_character_begins() {
        let text = "{\u{fc}\u{1f980}";
        assert_eq!([0, 1, 2, 3, 4, 9].map(|offset| character_at(text, offset)), [0, 1, 1, 3, 3, 3]);
        assert_eq!(character_at("", 7), 0);
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("lian.lock");
        assert_eq!(read_lock(&path).expect("readable"), None);
        let mut lock = Lock::default();
        lock.images.insert("docker.io/library/debian:trixie-slim".into(), Pin::new(Digest::of("x")));
        write_lock(&path, &lock).expect("writable");
        assert_eq!(read_lock(&path).expect("readable"), Some(lock));
        assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 1, "a temporary file is left");
    }

    #[test]
    fn pins_added_at_once_are_all_kept() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("lian.lock");
        std::thread::scope(|scope| {
            for number in 0..8 {
                let path = &path;
                let pin = Pin::new(Digest::of([number]));
                scope.spawn(move || {
                    change_lock(path, |lock| drop(lock.images.insert(number.to_string(), pin))).expect("changed");
                });
            }
        });
        assert_eq!(read_lock(&path).expect("readable").expect("a lock").images.len(), 8);
    }

    #[test]
    fn a_damaged_lock_is_shown_where_it_is() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("lian.lock");
        for (text, at) in [("{\n  \"version\": x\n}", 15), ("{\"version\": 9}", 2)] {
            std::fs::write(&path, text).expect("writable");
            let Err(StoreError::Lock { at: span, .. }) = read_lock(&path) else { panic!("it was read: {text}") };
            assert!(span.offset().abs_diff(at) <= 1, "{text}: {}", span.offset());
        }
    }
}
