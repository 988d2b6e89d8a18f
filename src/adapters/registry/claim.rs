//! Claims on keys: one file lock per key, released by the kernel if the holder dies. Not responsible for: other
//! machines.

use std::fs::File;
use std::path::Path;

use super::files::{failed, open_lock, open_own, try_lock};
use crate::domain::model::LayerKey;
use crate::domain::ports::{Claim, ImageStoreError};
use crate::system::lock;

/// A claim, held as a lock on its file.
struct Held {
    _lock: File,
}

impl Claim for Held {}

/// Claims a key, so that no other user of this folder builds it at the same time.
pub(super) fn claim(folder: &Path, key: &LayerKey) -> Result<Option<Box<dyn Claim>>, ImageStoreError> {
    open_own(folder)?;
    let path = folder.join(key.tag());
    let file = open_lock(&path)?;
    // Keep the empty file: if it were removed, two processes could hold locks of the same name.
    let held = try_lock(&file, &path, false)?
        && lock::is_at(&file, &path).map_err(|error| failed("cannot look at", &path, error))?;
    Ok(if held { Some(Box::new(Held { _lock: file })) } else { None })
}
