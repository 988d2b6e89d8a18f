//! Who holds a host, as written in its lock file. Not responsible for: the lock itself (see `hosts`).

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::domain::base::{LayerName, LeaseId, RunId, Timestamp};
use crate::domain::ports::{AcquireRequest, OwnedLease};
use crate::system::{lock, now, whoami};

/// No holder is longer, in bytes.
const MOST: u64 = 4096;

/// The content of a host's lock file while it is locked.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Holder {
    lease: LeaseId,
    run: RunId,
    layer: LayerName,
    /// `user@machine`.
    owner: String,
    since: Timestamp,
    expires: Timestamp,
}

impl Holder {
    /// This process, for a request.
    pub(super) fn of(request: &AcquireRequest) -> Self {
        Self {
            lease: request.lease.clone(),
            run: request.run.clone(),
            layer: request.layer.clone(),
            owner: whoami(),
            since: now(),
            expires: request.expires,
        }
    }

    /// Writes it into the locked file, instead of what an earlier holder left there.
    pub(super) fn write(&self, mut file: &File) -> io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&serde_json::to_vec(self).expect("invariant: a holder is plain data"))
    }

    /// Who holds the lock file of this host, if anybody does. Makes no file.
    pub(super) fn read(path: &Path, host: &str) -> Option<OwnedLease> {
        let file = File::open(path).ok()?;
        if lock::try_shared(&file).ok()? {
            return None;
        }
        let mut text = String::new();
        let _ = file.take(MOST).read_to_string(&mut text);
        let Ok(holder) = serde_json::from_str::<Self>(&text) else {
            // Just taken, or by a version that wrote nothing.
            let (lease, what) = (LeaseId::from("?"), format!("{host}, of this machine"));
            return Some(OwnedLease { lease, run: None, what, created: None, expires: None });
        };
        let Self { lease, run, layer, owner, since, expires } = holder;
        let what = format!("{host}, of {owner}, taken for {layer}");
        Some(OwnedLease { lease, run: Some(run), what, created: Some(since), expires: Some(expires) })
    }
}
