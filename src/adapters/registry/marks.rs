//! This user's marks on the entries of a layout: an image is used again because its entry and its record carry one. Not
//! responsible for: the key (see `system::user_key`).

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::index::Entry;
use crate::domain::base::Digest;
use crate::domain::model::LayerKey;
use crate::domain::ports::ImageStoreError;
use crate::system::user_key::{FILE, UserKey};

/// What is marked, and in which version of these fields.
const KIND: &str = "image 1";

/// The user's key, read when it is first needed.
#[derive(Debug)]
pub(super) struct Marks {
    user: PathBuf,
    key: Mutex<Option<Arc<UserKey>>>,
}

/// A tag and what it stands for.
pub(super) struct Marked<'a> {
    /// `<name>:<tag>`.
    pub(super) reference: &'a str,
    pub(super) digest: &'a Digest,
    /// Of a record, its image. Its manifest's digest stands for the record itself: platforms, parents and all.
    pub(super) subject: Option<&'a Digest>,
    /// Of an image, its key.
    pub(super) key: Option<&'a LayerKey>,
}

impl<'a> Marked<'a> {
    fn fields(&self) -> [&'a str; 5] {
        let subject = self.subject.map_or("", Digest::as_str);
        let key = self.key.map_or("", |key| key.0.as_str());
        [KIND, self.reference, self.digest.as_str(), subject, key]
    }
}

impl Marks {
    /// Marks with the key in this folder.
    pub(super) fn of(user: &Path) -> Self {
        Self { user: user.to_owned(), key: Mutex::new(None) }
    }

    /// The mark; the key is made if there is none.
    pub(super) fn mark(&self, marked: &Marked<'_>) -> Result<String, ImageStoreError> {
        let mut held = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        let key = match &*held {
            Some(key) => Arc::clone(key),
            None => Arc::new(UserKey::make(&self.user).map_err(|error| self.failed(error))?),
        };
        *held = Some(Arc::clone(&key));
        Ok(key.mark(&marked.fields()))
    }

    /// Whether this user's lian-build wrote the entry. `key` is the key that its image says it has.
    pub(super) fn is_own(&self, entry: &Entry, key: Option<&LayerKey>) -> Result<bool, ImageStoreError> {
        let (Some(reference), Some(mark)) = (&entry.reference, &entry.mark) else { return Ok(false) };
        let (digest, subject) = (&entry.digest, entry.subject.as_ref());
        let marked = Marked { reference, digest, subject, key };
        let mut held = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_none() {
            *held = UserKey::read(&self.user).map_err(|error| self.failed(error))?.map(Arc::new);
        }
        Ok(held.as_ref().is_some_and(|key| key.is_mark(&marked.fields(), mark)))
    }

    fn failed(&self, source: std::io::Error) -> ImageStoreError {
        ImageStoreError::Io {
            what: "cannot use the key that marks your images".to_owned(),
            path: self.user.join(FILE),
            help: "it is a file of yours alone (mode 600) that lian-build makes: delete it, and images are built again"
                .to_owned(),
            source,
        }
    }
}
