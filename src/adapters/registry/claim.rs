//! Claims on keys: a lock on a file for each, given back by the kernel if its holder dies. Not responsible for: other machines.

use std::fs::File;
use std::path::Path;

use super::files::{make_folder, open_lock, try_lock};
use crate::domain::model::LayerKey;
use crate::domain::ports::{Claim, ImageStoreError};

/// A claim, held as a lock on its file.
struct Held {
    _lock: File,
}

impl Claim for Held {}

/// Claims the building of a key among all who use this folder.
pub(super) fn claim(folder: &Path, key: &LayerKey) -> Result<Option<Box<dyn Claim>>, ImageStoreError> {
    make_folder(folder)?;
    let path = folder.join(key.tag());
    let file = open_lock(&path)?;
    // The file stays, empty: removing it would let two hold the lock of one name.
    Ok(if try_lock(&file, &path, false)? { Some(Box::new(Held { _lock: file })) } else { None })
}
