//! Tells a person that lian-build itself failed, whichever thread or process of it did. Not responsible for: what a run
//! does then (its leases are given back, or stay in the ledger).

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::process::ExitCode;

use super::exit::Exit;
use crate::domain::base::shown;
use crate::system::bug;

/// The most of a failure's words that is shown, in characters.
const WORDS: usize = 1000;

/// Runs the whole of a process: whatever fails in it is told, and is its exit code.
pub fn guarded(work: impl FnOnce() -> ExitCode) -> ExitCode {
    std::panic::set_hook(Box::new(tell));
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Exit::Bug.into())
}

/// The exit code of a command in whose process something may have failed on another thread.
pub fn outranks(exit: Exit) -> Exit {
    match exit {
        Exit::Stuck => Exit::Stuck,
        _ if bug::happened() => Exit::Bug,
        exit => exit,
    }
}

/// Says it once in full; what fails after that is most likely its consequence, and is a line.
fn tell(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    let words =
        payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let words: String = shown(words.unwrap_or("no words")).chars().take(WORDS).collect();
    let place = panic.location().map(|place| format!(" at {place}")).unwrap_or_default();
    let what = format!("lian-build failed{place}: {words}");
    if !bug::note() {
        return eprintln!("lian::bug: {what}");
    }
    // Only with RUST_BACKTRACE.
    let trace = Backtrace::capture();
    let trace = if trace.status() == BacktraceStatus::Captured { trace.to_string() } else { String::new() };
    eprintln!("lian::bug\n\n  × {what}\n  help: {}\n{trace}", bug::way());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_names_no_address_that_nobody_gave() {
        let way = bug::way();
        assert!(way.contains("a fault of lian-build") && way.contains("the command"), "{way}");
        assert_eq!(way.contains("://"), !env!("CARGO_PKG_REPOSITORY").is_empty(), "{way}");
    }
}
