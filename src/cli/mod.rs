//! Arguments, output, signals and exit codes. Each command has one file: parse, call `app`, show. Not responsible
//! for: deciding anything.

/// Prints to standard error. Unlike the standard library's macro it does not panic if nobody reads there any more.
macro_rules! eprint {
    ($($text:tt)*) => { $crate::report::whisper(&format!($($text)*)) };
}

/// Prints a line to standard error; see `eprint`.
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::report::whisper(&(format!($($text)*) + "\n")) };
}

mod apply;
mod args;
mod check;
mod command_line;
mod dispatch;
mod doctor;
mod exit;
mod gc;
mod invocation;
mod leases;
mod load;
mod logs;
mod plan;
mod provider_flags;
mod recovered;
mod runs;
mod schemas;
mod serve;
mod show;
mod signals;
mod update;

use std::process::ExitCode;

use clap::Parser as _;

use crate::adapters::providers::{self, ProviderRegistry};
use command_line::{Cli, perform};
use exit::Exit;

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    run_with(providers::builtin())
}

/// Runs the command line with these providers.
pub fn run_with(providers: ProviderRegistry) -> ExitCode {
    providers::install(providers);
    // This must come first: the binary also runs as its own Nickel evaluator and as supervisor of the daemon, which
    // need neither flags nor logs.
    if crate::adapters::nickel::is_child() {
        return crate::adapters::nickel::child_main(&crate::app::schemas::all());
    }
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.next_if(|first| first == crate::adapters::buildkit::SUPERVISE_COMMAND).is_some() {
        return crate::adapters::buildkit::supervise(arguments);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are results; everything else is a usage error.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            let _ = error.print();
            return exit.into();
        }
    };
    start_tracing(cli.global.verbose);
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("lian::bug\n\n  × lian-build failed: {panic}\n  help: this is a bug in lian-build; please report it");
    }));
    let format = cli.global.format;
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| perform(cli)));
    match ended {
        Ok(Ok(Exit::Done | Exit::Changes)) if show::lost() => Exit::Unavailable.into(),
        Ok(Ok(exit)) => exit.into(),
        Ok(Err(failure)) => show::failure(format, failure).into(),
        Err(_) => Exit::Bug.into(),
    }
}

/// Logs go to standard error; `RUST_LOG` overrides `-v`.
fn start_tracing(verbose: u8) {
    let default = match verbose {
        0 => "warn",
        1 => "lian_build=info,warn",
        _ => "lian_build=debug,info",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let colour = report_colour();
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Aside).with_ansi(colour).without_time();
    // Only the first subscriber of a process counts: tests may have set one.
    let _ = subscriber.try_init();
}

/// Standard error, printed above a running apply's progress display. Each log message is one write.
struct Aside;

impl std::io::Write for Aside {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        crate::report::aside(String::from_utf8_lossy(bytes).trim_end());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn report_colour() -> bool {
    crate::report::Style::stderr().colour
}
