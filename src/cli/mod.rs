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
mod bug;
mod check;
mod command_line;
mod consent;
mod dispatch;
mod doctor;
mod exit;
mod explain;
mod gc;
mod invocation;
mod leases;
mod load;
mod log_lines;
mod logs;
mod plan;
mod provider_flags;
mod recovered;
mod runs;
mod schemas;
mod serve;
mod show;
mod signals;
mod trust;
mod update;
mod whereabouts;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

use crate::adapters::providers::{self, ProviderRegistry};
use crate::report::{self, Outlet};
use args::{Format, Global};
use command_line::{Cli, Command, perform};
use exit::Exit;
use log_lines::LogLook;

/// How long the end of a run waits for a reader that takes nothing.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same where somebody asked it to stop.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    run_with(providers::builtin())
}

/// Runs the command line with these providers.
pub fn run_with(providers: ProviderRegistry) -> ExitCode {
    let exit = bug::guarded(|| begin(providers));
    // What was said of a bug, if nothing else.
    report::end_errors(Some(LAST_WORDS));
    exit
}

/// All that this process is for.
fn begin(providers: ProviderRegistry) -> ExitCode {
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
            let words = error.render().ansi().to_string();
            if error.use_stderr() {
                report::whisper(&words);
                return Exit::Usage.into();
            }
            show::out(&words);
            return Exit::Done.into();
        }
    };
    let log = start_tracing(&cli);
    let format = cli.global.format;
    let is_run = matches!(cli.command, Command::Apply(_) | Command::Dispatch(_) | Command::Serve(_));
    let exit = match perform(cli) {
        Ok(Exit::Done | Exit::Changes) if show::lost() => Exit::Unavailable,
        Ok(exit) => exit,
        Err(failure) => show::failure(format, failure),
    };
    end(log.as_ref(), is_run);
    bug::outranks(exit).into()
}

/// Waits for whoever reads what was said last, like every program; a run and a service only while they read on.
fn end(log: Option<&Outlet>, is_run: bool) {
    let patience = match is_run {
        true if signals::was_stopped() => Some(LAST_WORDS),
        true => Some(PATIENCE),
        false => None,
    };
    if let Some(log) = log {
        log.end(patience);
    }
    report::end_errors(patience);
}

/// Logs go to standard error; `RUST_LOG` overrides `-v`. A service's log is its operator's: it has more in it, and as
/// JSON it is the service's output, which waits for no reader either.
fn start_tracing(cli: &Cli) -> Option<Outlet> {
    let Global { format, verbose, .. } = cli.global;
    let serves = matches!(&cli.command, Command::Serve(serve) if serve.leases());
    let default = match verbose {
        0 if serves => "lian_build::serve=info,warn",
        0 => "warn",
        1 => "lian_build=info,warn",
        _ => "lian_build=debug,info",
    };
    let look = match format {
        Format::Json if serves => LogLook::Json,
        _ if serves => LogLook::Operator,
        _ => LogLook::Person { style: report::Style::stderr(), modules: verbose > 1 },
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let output = (look == LogLook::Json).then(report::result_lines);
    let lines = output.clone();
    let writer = move || lines.clone().map_or(LogStream::Aside, LogStream::Output);
    // Only the first subscriber of a process counts: tests may have set one.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).event_format(look).with_writer(writer).try_init();
    output
}

/// Where a log line goes. Each is one write.
enum LogStream {
    /// Standard error, printed above a running apply's progress display.
    Aside,
    /// Standard output.
    Output(Outlet),
}

impl std::io::Write for LogStream {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let line = String::from_utf8_lossy(bytes);
        match self {
            Self::Aside => report::aside(line.trim_end()),
            Self::Output(lines) => lines.push(&line),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
