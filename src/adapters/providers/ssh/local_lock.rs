//! The lock of a host for the runs of this user on this machine, and who holds it. Not responsible for: the lock on the
//! host itself (see `HostProbe`).

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::domain::base::{LayerName, LeaseId, RunId, Timestamp};
use crate::domain::ports::{AcquireRequest, Held, Holder};
use crate::system::{lock, now, whoami};

/// No note is longer, in bytes.
const MOST: u64 = 4096;

/// The content of a host's lock file while it is locked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    pub lease: LeaseId,
    pub run: RunId,
    pub layer: LayerName,
    /// `user@machine`.
    pub owner: String,
    pub since: Timestamp,
    pub expires: Timestamp,
}

/// What a look at a lock file finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Nobody here holds it.
    Free,
    /// Somebody here holds it; without a note it was just taken, or its disk is full.
    Held(Option<Note>),
}

impl Note {
    /// This process, for a request.
    pub(super) fn of(request: &AcquireRequest) -> Self {
        Self {
            lease: request.lease.clone(),
            run: request.run.clone(),
            layer: request.layer.clone(),
            owner: whoami(),
            since: now(),
            expires: now().plus(request.lifetime),
        }
    }

    /// Writes it into the locked file, instead of what an earlier holder left there.
    pub(super) fn write(&self, file: &File) -> io::Result<()> {
        clear(file)?;
        (&*file).write_all(&serde_json::to_vec(self).expect("invariant: a note is plain data"))
    }

    /// In the words that hosts elsewhere have, too.
    pub(super) fn held(self) -> Held {
        let age = now().since(self.since);
        let (owner, run, lease) = (self.owner, self.run.to_string(), self.lease.to_string());
        Held { by: Some(Holder { owner, run, lease, ..Holder::default() }), age: Some(age) }
    }
}

/// Empties the file that was just locked: what is in it is an earlier holder's.
pub(super) fn clear(mut file: &File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()
}

/// Who holds a lock file. Only a lock that is free, or that nobody ever took, means nobody. Makes no file.
///
/// # Errors
/// If the lock cannot be looked at.
pub(super) fn look(path: &Path) -> io::Result<Seen> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Seen::Free),
        opened => opened?,
    };
    if lock::try_shared(&file)? {
        return Ok(Seen::Free);
    }
    let mut text = String::new();
    // Text that is cut or not ours is no note.
    let _ = file.take(MOST).read_to_string(&mut text);
    Ok(Seen::Held(serde_json::from_str(&text).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_free_lock_is_free() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("host");
        assert_eq!(look(&path).expect("it is not there"), Seen::Free);
        let file = lock::open(&path).expect("a file");
        assert_eq!(look(&path).expect("free"), Seen::Free);
        assert!(lock::try_exclusive(&file).expect("lockable"));
        assert_eq!(look(&path).expect("held"), Seen::Held(None));
        let note = Note {
            lease: "l".into(),
            run: "r".into(),
            layer: "x".into(),
            owner: "o".into(),
            since: Timestamp(1),
            expires: Timestamp(2),
        };
        note.write(&file).expect("writable");
        assert_eq!(look(&path).expect("held"), Seen::Held(Some(note)));
        // Whoever cannot look at a lock knows nothing of it.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&link, &link).expect("a link to itself");
        look(&link).expect_err("a link that leads to itself");
    }
}
