//! Floor 6: arguments, settings, wiring and exit codes.

/// Runs the command line of this process.
pub fn run() -> std::process::ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    // Before anything else: the supervisor of the daemon is this binary too, and wants neither settings nor logs.
    if arguments.next_if(|first| first == crate::buildkit::SUPERVISE_COMMAND).is_some() {
        return crate::buildkit::supervise(arguments);
    }
    std::process::ExitCode::SUCCESS
}
