//! The faults of a scratch folder that cannot be created or filled. Not responsible for: creating and removing it (see
//! `system::scratch`).

use std::path::Path;

use crate::domain::model::{Fault, FaultKind};
use crate::system::scratch::folder;

/// A fresh folder, which is removed when dropped.
pub(super) fn scratch() -> Result<tempfile::TempDir, Fault> {
    folder().map_err(|error| {
        full(&error, &std::env::temp_dir()).unwrap_or_else(|| {
            let folder = std::env::temp_dir();
            let message = format!("no temporary folder could be made in {}: {error}", folder.display());
            // Another try would fail the same way, so this is not an infrastructure fault.
            Fault::new(FaultKind::Unavailable, "lian::buildkit::scratch", message)
                .help("create that folder and make it writable, or set TMPDIR to another one")
        })
    })
}

/// The fault of files that could not be written into a scratch folder.
pub(super) fn unwritten(folder: &Path, error: &std::io::Error) -> Fault {
    full(error, &std::env::temp_dir()).unwrap_or_else(|| {
        let message = format!("cannot write into {}: {error}", folder.display());
        Fault::new(FaultKind::Infrastructure, "lian::buildkit::scratch", message)
            .help("check that the folder exists and is writable, or set TMPDIR to another one")
    })
}

/// The fault of a full disk below a scratch folder; `None` for any other error.
fn full(error: &std::io::Error, folder: &Path) -> Option<Fault> {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded).then(|| {
        let folder = folder.display();
        let message = format!("no space is left in the temporary folder {folder}");
        Fault::new(FaultKind::Unavailable, "lian::buildkit::disk_full", message)
            .help(format!("free space in the temporary folder ({folder}), or set TMPDIR to another one"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_temporary_folder_is_no_fault_of_a_layer_and_waits_for_nobody() {
        let fault = full(&std::io::ErrorKind::StorageFull.into(), Path::new("/t")).expect("a fault");
        assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Unavailable, "lian::buildkit::disk_full"));
        assert!(fault.help.expect("help").contains("(/t), or set TMPDIR"));
        assert!(full(&std::io::ErrorKind::PermissionDenied.into(), Path::new("/t")).is_none());
    }

    #[test]
    fn files_without_room_are_no_fault_of_the_dockerfile() {
        // A device that is always full.
        let error = std::fs::write("/dev/full", "FROM scratch\n").expect_err("it took something");
        let fault = unwritten(Path::new("/t"), &error);
        assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Unavailable, "lian::buildkit::disk_full"));
        let fault = unwritten(Path::new("/t"), &std::io::ErrorKind::PermissionDenied.into());
        assert_eq!((fault.kind, fault.code.as_str()), (FaultKind::Infrastructure, "lian::buildkit::scratch"));
    }
}
