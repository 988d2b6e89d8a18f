//! Floor 6: arguments, settings, wiring and exit codes.

/// Runs the command line of this process.
pub fn run() -> std::process::ExitCode {
    // Before anything else: this binary is also its own evaluator of Nickel and its own supervisor of the daemon, which
    // want neither settings nor logs.
    if crate::nickel::is_child() {
        return crate::nickel::child_main();
    }
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.next_if(|first| first == crate::buildkit::SUPERVISE_COMMAND).is_some() {
        return crate::buildkit::supervise(arguments);
    }
    std::process::ExitCode::SUCCESS
}
