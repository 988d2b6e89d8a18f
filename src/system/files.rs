//! Writes files atomically, and looks whether they are there. Not responsible for: their content.

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Writes a file with this mode, atomically: temporary file, fsync, rename. On failure the old file stays.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The name shows what a file left by a killed process was for.
    let mut prefix = OsString::from(".");
    prefix.push(path.file_name().unwrap_or_default());
    prefix.push("-");
    let mut file = tempfile::Builder::new().prefix(&prefix).tempfile_in(folder)?;
    file.write_all(bytes)?;
    // Temporary files have mode 600, whatever the umask.
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    sync_folder(folder)
}

/// Whether a file is there. Only the system's word that it is not means no: whoever cannot look knows nothing.
///
/// # Errors
/// If it cannot be looked at.
pub fn is_there(path: &Path) -> io::Result<bool> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(found.is_file()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes renames in a folder durable.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_not_to_be_there_is_not_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let [file, link] = ["file", "link"].map(|name| folder.path().join(name));
        assert!(!is_there(&file).expect("looked"));
        std::fs::write(&file, "").expect("writable");
        assert!(is_there(&file).expect("looked") && !is_there(folder.path()).expect("looked"));
        assert!(!is_there(&file.join("below")).expect("a file has nothing below it"));
        std::os::unix::fs::symlink(&link, &link).expect("a link to itself");
        is_there(&link).expect_err("nobody can look there");
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        for (text, mode) in [("a longer text", 0o644), ("short", 0o600)] {
            write_whole(&path, text.as_bytes(), mode).expect("writable");
            assert_eq!(std::fs::read_to_string(&path).expect("readable"), text);
            assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, mode);
        }
        // A folder cannot be replaced by a file: the temporary file is removed.
        std::fs::create_dir_all(folder.path().join("taken/inside")).expect("writable");
        write_whole(&folder.path().join("taken"), b"x", 0o644).expect_err("a folder is there");
        assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 2);
    }
}
