//! Scratch folders on the system's temporary file system. What killed processes left is removed. Not responsible for: what is put
//! into them.

use std::path::Path;

use crate::domain::model::{Fault, FaultKind};

/// A fresh one, removed when dropped.
pub(super) fn scratch() -> Result<tempfile::TempDir, Fault> {
    static SWEEP: std::sync::Once = std::sync::Once::new();
    SWEEP.call_once(|| sweep(&std::env::temp_dir()));
    tempfile::Builder::new().prefix(&format!("{}{}-", scratch_prefix(), std::process::id())).tempdir().map_err(
        |error| {
            full(&error, &std::env::temp_dir()).unwrap_or_else(|| {
                let folder = std::env::temp_dir();
                let message = format!("no temporary folder could be made in {}: {error}", folder.display());
                // The same the next time: not an infrastructure fault, which is tried again.
                Fault::new(FaultKind::Unavailable, "lian::buildkit::scratch", message)
                    .help("make that folder, and writable, or set TMPDIR to another one")
            })
        },
    )
}

/// Writes a Dockerfile into a folder, which is made if it does not exist.
pub(super) fn write_dockerfile(context: &Path, dockerfile: &str) -> Result<(), Fault> {
    let written = std::fs::create_dir_all(context)
        .and_then(|()| std::fs::write(context.join("Dockerfile"), dockerfile))
        .map_err(|error| (context, error));
    written.map_err(|(path, error)| {
        full(&error, &std::env::temp_dir()).unwrap_or_else(|| {
            let message = format!("cannot write {}: {error}", path.display());
            Fault::new(FaultKind::Infrastructure, "lian::buildkit::scratch", message)
                .help("see whether that folder is there and writable, or set TMPDIR to another one")
        })
    })
}

/// What there is to say where there is no room for what is written into a scratch folder; none of any other fault.
pub(super) fn full(error: &std::io::Error, folder: &Path) -> Option<Fault> {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded).then(|| {
        let folder = folder.display();
        let message = format!("no space is left in the temporary folder {folder}");
        Fault::new(FaultKind::Unavailable, "lian::buildkit::disk_full", message)
            .help(format!("free space in the temporary folder ({folder}), or set TMPDIR to another one"))
    })
}

/// Names of scratch folders begin so, with the process's number behind it. Numbers mean something only within one
/// namespace: a neighbour's in another one is never taken for dead.
fn scratch_prefix() -> String {
    let namespace = std::fs::read_link("/proc/self/ns/pid").map(|link| link.to_string_lossy().into_owned());
    let number: String = namespace.unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
    format!("lian-build-{number}-")
}

/// Removes the scratch folders of processes that are gone.
fn sweep(folder: &Path) {
    let prefix = scratch_prefix();
    for entry in std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(&prefix).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            // Somebody else's folder refuses, and stays.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
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
    fn leftovers_of_the_dead_go_and_those_of_the_living_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut child = std::process::Command::new("true").spawn().expect("a process");
        let dead = child.id();
        child.wait().expect("it ended");
        let made = |process: u32| {
            let path = folder.path().join(format!("{}{process}-abc", scratch_prefix()));
            std::fs::create_dir(&path).expect("a folder");
            path
        };
        let (gone, own) = (made(dead), made(std::process::id()));
        let other = folder.path().join("lian-build-other");
        std::fs::create_dir(&other).expect("a folder");
        sweep(folder.path());
        assert!(!gone.exists() && own.exists() && other.exists());
    }
}
