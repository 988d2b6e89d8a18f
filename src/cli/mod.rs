//! Arguments, settings, wiring and exit codes. A file a command. Not responsible for: everything that a room below owns.

mod apply;
mod args;
mod carry;
mod check;
mod dispatch;
mod doctor;
mod exit;
mod housekeeping;
mod leases;
mod logs;
mod plan_command;
mod provider_flags;
mod recovered;
mod serve;
mod show;
mod signals;
mod update;

use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::adapters::providers::{self, ProviderRegistry};
use crate::app::project::Project;
use args::{Cli, Command, Format};
use exit::{Exit, Failure, Outcome, WrongFormat};

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    run_with(providers::builtin())
}

/// The same, with these providers.
pub fn run_with(providers: ProviderRegistry) -> ExitCode {
    providers::install(providers);
    // Before anything else: this binary is also its own evaluator of Nickel and its own supervisor of the daemon, which
    // want neither settings nor logs.
    if crate::adapters::nickel::is_child() {
        return crate::adapters::nickel::child_main(&crate::app::schemas());
    }
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.next_if(|first| first == crate::adapters::buildkit::SUPERVISE_COMMAND).is_some() {
        return crate::adapters::buildkit::supervise(arguments);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are results; everything else is wrong usage.
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

fn perform(cli: Cli) -> Outcome {
    let global = cli.global;
    let graph = matches!(global.format, Format::Dot | Format::Mermaid);
    if graph && !matches!(cli.command, Command::Plan { .. }) {
        let format = if global.format == Format::Dot { "dot" } else { "mermaid" };
        return Err(Failure::usage(WrongFormat { format: format.to_owned() }));
    }
    if !matches!(
        cli.command,
        Command::Apply { .. }
            | Command::Dispatch(_)
            | Command::Leases { .. }
            | Command::Serve { command: None, .. }
            | Command::Completions { .. }
    ) {
        recovered::remind(&Project::of_folder(Path::new(".")));
    }
    match cli.command {
        Command::Check { source, strict } => check::check(&global, &source, strict),
        Command::Plan { selection, detailed_exitcode } => plan_command::plan(&global, &selection, detailed_exitcode),
        Command::Apply { selection, parallel, keep_going: _, fail_fast } => {
            apply::apply(&global, &selection, apply::Options { parallel, fail_fast })
        }
        Command::Dispatch(wishes) => dispatch::dispatch(&global, &wishes),
        Command::Update { source, dry_run } => update::update(&global, &source, dry_run),
        Command::Runs { project, limit } => housekeeping::runs(&global, &project, limit),
        Command::Logs { project, run, layer } => logs::logs(&global, &project, &run, layer.as_deref()),
        Command::Load { layer, source, layout, tag } => {
            housekeeping::load(&global, &source, layout.layout, &layer, tag.as_deref())
        }
        Command::Gc { project, layout, keep_bytes, drop } => {
            housekeeping::gc(&global, &project, layout.layout.as_deref(), keep_bytes, &drop)
        }
        Command::Leases { command: None, source, provider } => leases::list(&global, &source, provider),
        Command::Leases { command: Some(args::LeasesCommand::Gc { source, provider, lease, forget }), .. } => {
            if !forget.is_empty() {
                return leases::forget(&global, &source, &forget);
            }
            leases::gc(&global, &source, provider, &lease)
        }
        Command::Serve { command, flags } => serve::serve(&global, command, &flags),
        Command::Schemas { export } => housekeeping::schemas(&global, &export),
        Command::Doctor { project } => doctor::doctor(&global, &project),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "lian-build", &mut script);
            show::out(&String::from_utf8_lossy(&script));
            Ok(Exit::Done)
        }
    }
}

/// Details go to standard error; `RUST_LOG` wins over `-v`.
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
    // Only the first subscriber of a process counts: tests may have one.
    let _ = subscriber.try_init();
}

/// Standard error, but above the picture of a running apply. Each remark is one write.
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

/// The command line without the program's name, as `runs` lists it: values of `--set` and `--build-arg` are left out,
/// for they may be nobody's business.
pub(crate) fn command_line() -> String {
    let mut shown = Vec::new();
    let mut hide = false;
    for argument in std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()) {
        let private = ["--set", "--build-arg"];
        if hide {
            shown.push(argument.split('=').next().unwrap_or("").to_owned() + "=…");
        } else if let Some(flag) = private.iter().find(|flag| argument.starts_with(&format!("{flag}="))) {
            shown.push(format!("{flag}=…"));
        } else {
            shown.push(argument.clone());
        }
        hide = !hide && private.contains(&argument.as_str());
    }
    shown.join(" ")
}
