//! That lian-build itself failed: whether it did, and what to do then. Not responsible for: noticing and telling it
//! (see `cli::bug`).

use std::sync::atomic::{AtomicBool, Ordering};

/// Where the source is published; empty as long as it is nowhere.
const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

/// The exit code of a process of lian-build's that failed itself.
pub const EXIT: u8 = 70;

static HAPPENED: AtomicBool = AtomicBool::new(false);

/// Remembers that this process, or a child of it, has a fault. Returns whether it is the first.
pub fn note() -> bool {
    !HAPPENED.swap(true, Ordering::Relaxed)
}

/// Whether one was noted.
pub fn happened() -> bool {
    HAPPENED.load(Ordering::Relaxed)
}

/// What to do about it.
pub fn way() -> String {
    let place = match REPOSITORY {
        "" => "to the maintainers of the repository you got it from".to_owned(),
        address => format!("at {address}"),
    };
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "this is a fault of lian-build {version}, not of your project: please report it {place}, with this text, the \
         command, and what `lian-build doctor` says"
    )
}
