//! Clocks that are off: a library that is loaded before all others shifts what programs see of the wall clock, and nothing else.
//! Not responsible for: programs that do not ask the C library (those of Go).

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What a program's environment needs for a clock that is so many hours ahead, or behind where that is negative.
pub fn off(hours: i64) -> [(&'static str, String); 5] {
    [
        ("LD_PRELOAD", library().display().to_string()),
        ("FAKETIME", format!("{hours:+}h")),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("NO_FAKE_STAT", "1".to_owned()),
        // It leaves shared memory behind in a program that is killed.
        ("FAKETIME_DISABLE_SHM", "1".to_owned()),
    ]
}

/// The same for a clock that is set while the program runs: it shows what the file says, such as `+7h`.
pub fn set_by(file: &Path) -> [(&'static str, String); 6] {
    let [preload, _, monotonic, stat, memory] = off(0);
    let file = ("FAKETIME_TIMESTAMP_FILE", file.display().to_string());
    [preload, file, ("FAKETIME_NO_CACHE", "1".to_owned()), monotonic, stat, memory]
}

/// Debian's libfaketime (`scripts/setup.sh --test` installs it).
fn library() -> &'static PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        let folders = std::fs::read_dir("/usr/lib").expect("a folder").flatten();
        let mut files = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
        files.find(|file| file.is_file()).expect("libfaketime: type scripts/setup.sh --test")
    })
}
