//! The record in a state folder: which project it belongs to. Not responsible for: where the folder lies.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::system::confined::Folder;

/// Its file.
const FILE: &str = "project.json";
/// Its version.
const SCHEMA: u32 = 1;
/// A record is a path and a few bytes.
const MOST: u64 = 64 << 10;

/// Whose state a folder is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    schema: u32,
    root: String,
}

impl Record {
    /// The record of the project with this root.
    pub(super) fn of(root: &Path) -> Self {
        Self { schema: SCHEMA, root: root.to_string_lossy().into_owned() }
    }

    /// The record in a folder; `None` if there is none.
    pub(super) fn read(folder: &Folder) -> io::Result<Option<Self>> {
        let bytes = match folder.read(FILE, MOST) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, format!("{FILE} is damaged: {what}"));
        let record: Self = serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
        match record.schema {
            SCHEMA => Ok(Some(record)),
            other => Err(invalid(format!("its schema is {other}, and this lian-build knows {SCHEMA}"))),
        }
    }

    /// Writes the record, if the folder has another one or none.
    pub(super) fn keep(&self, folder: &Folder) -> io::Result<()> {
        if Self::read(folder)?.as_ref() == Some(self) {
            return Ok(());
        }
        let mut text = serde_json::to_string(self).expect("invariant: a record is plain data");
        text.push('\n');
        folder.write_whole(FILE, text.as_bytes())
    }

    /// The root.
    pub(super) fn root(&self) -> PathBuf {
        PathBuf::from(&self.root)
    }

    /// Whether it is the record of this root.
    pub(super) fn is_of(&self, root: &Path) -> bool {
        *self == Self::of(root)
    }

    /// Whether the project is not where it was. A root whose name is not UTF-8 is never called gone: the record holds
    /// it for people only.
    pub(super) fn is_gone(&self) -> bool {
        let missing =
            Path::new(&self.root).symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        missing && !self.root.contains(char::REPLACEMENT_CHARACTER)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::domain::base::mutated::mutated_json;
    use crate::system::confined;

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_damaged(bytes in mutated_json(vec![json!({"schema": 1, "root": "/home/ana/shop"})])) {
            let place = tempfile::tempdir().expect("a folder");
            std::fs::write(place.path().join(FILE), &bytes).expect("writable");
            let folder = confined::open(place.path()).expect("a folder");
            if let Ok(record) = Record::read(&folder) {
                let record = record.expect("it is there");
                record.keep(&folder).expect("what was read is kept");
                prop_assert_eq!(Record::read(&folder).expect("sound"), Some(record));
            }
        }
    }
}
