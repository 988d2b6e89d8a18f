//! Scratch folders, most of them on the system's temporary file system. Removes those of killed processes. Not
//! responsible for: their content.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Once;

use tempfile::TempDir;

/// A new folder for this user only, removed on drop. If this process is killed, the next process that needs one
/// removes it.
pub fn folder() -> io::Result<TempDir> {
    static SWEEP: Once = Once::new();
    SWEEP.call_once(|| sweep(&std::env::temp_dir()));
    made(&std::env::temp_dir())
}

/// As [`folder`], inside this folder, which is created if needed: programs are not always executable from the temporary
/// file system.
pub fn folder_in(base: &Path) -> io::Result<TempDir> {
    std::fs::create_dir_all(base)?;
    sweep(base);
    made(base)
}

fn made(base: &Path) -> io::Result<TempDir> {
    let name = format!("{}{}-", prefix(), std::process::id());
    tempfile::Builder::new().prefix(&name).permissions(Permissions::from_mode(0o700)).tempdir_in(base)
}

/// Prefix of scratch folder names; the pid follows. A pid is valid only in its namespace, so the prefix names that: a
/// process of another container is never taken for dead.
fn prefix() -> String {
    let namespace = std::fs::read_link("/proc/self/ns/pid").map(|link| link.to_string_lossy().into_owned());
    let number: String = namespace.unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
    format!("lian-build-{number}-")
}

/// Removes the scratch folders of dead processes.
fn sweep(folder: &Path) {
    let prefix = prefix();
    for entry in std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(&prefix).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if process.is_some_and(is_dead) {
            // Another user's folder cannot be removed; ignore it.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Whether there is no such process. One that may not be signalled is there.
fn is_dead(process: u32) -> bool {
    let process = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw);
    process.is_some_and(|process| rustix::process::test_kill_process(process) == Err(rustix::io::Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_private_and_bears_our_number() {
        let folder = folder().expect("a folder");
        let name = folder.path().file_name().expect("a name").to_string_lossy().into_owned();
        assert!(name.starts_with(&format!("{}{}-", prefix(), std::process::id())), "{name}");
        let mode = std::fs::metadata(folder.path()).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn leftovers_of_the_dead_go_and_those_of_the_living_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut child = std::process::Command::new("true").spawn().expect("a process");
        let dead = child.id();
        child.wait().expect("it ended");
        let made = |process: u32| {
            let path = folder.path().join(format!("{}{process}-abc", prefix()));
            std::fs::create_dir(&path).expect("a folder");
            path
        };
        let (gone, own) = (made(dead), made(std::process::id()));
        let other = folder.path().join("lian-build-other");
        std::fs::create_dir(&other).expect("a folder");
        let fresh = folder_in(folder.path()).expect("a folder");
        assert!(!gone.exists() && own.exists() && other.exists() && fresh.path().exists());
    }
}
