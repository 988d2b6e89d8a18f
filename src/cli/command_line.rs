//! The list of commands, and the code each one runs. Not responsible for: their flags (each command's own file).

use clap::{CommandFactory as _, Parser, Subcommand};

use super::apply::{self, Apply};
use super::args::{Format, Global};
use super::check::{self, Check};
use super::dispatch::{self, Dispatch};
use super::doctor::{self, Doctor};
use super::exit::{Exit, Failure, Outcome, WrongFormat};
use super::explain::{self, Explain};
use super::gc::{self, Gc};
use super::leases::{self, Leases};
use super::load::{self, Load};
use super::logs::{self, Logs};
use super::plan::{self, Plan};
use super::recovered;
use super::runs::{self, Runs};
use super::schemas::{self, Schemas};
use super::serve::{self, Serve};
use super::show;
use super::trust::{self, TrustFlags};
use super::update::{self, UpdateFlags};
use super::whereabouts::{self, Where};

/// Builds a catalog of container-image layers with BuildKit: checks that they fit together, says what must be rebuilt
/// and why, and builds it.
#[derive(Debug, Parser)]
#[command(name = "lian-build", version, propagate_version = true, disable_help_subcommand = true)]
#[command(after_help = "Examples:
  lian-build check                      is the catalog sound?
  lian-build plan                       what would be built, and why
  lian-build apply --target app         build `app` and what it stands on
  lian-build logs latest app            what the last build of `app` wrote
  lian-build doctor                     what is missing on this machine

Exit codes: 0 done · 1 a layer failed or the catalog is invalid · 2 changes (--detailed-exitcode) · 3 stale plan · \
4 no runner or outside service · 5 a lease could not be given back · 64 wrong usage · 70 a bug · 130 interrupted")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub global: Global,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Check(Check),
    Plan(Plan),
    Apply(Apply),
    Dispatch(Box<Dispatch>),
    Explain(Explain),
    Update(UpdateFlags),
    Runs(Runs),
    Logs(Logs),
    Load(Load),
    Gc(Gc),
    Where(Where),
    Leases(Leases),
    Trust(TrustFlags),
    Serve(Box<Serve>),
    Schemas(Schemas),
    Doctor(Doctor),
    /// Prints shell completions
    #[command(after_help = "Example:
  lian-build completions bash > /etc/bash_completion.d/lian-build")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Runs a command.
pub fn perform(cli: Cli) -> Outcome {
    let global = cli.global;
    let graph = matches!(global.format, Format::Dot | Format::Mermaid);
    if graph && !matches!(cli.command, Command::Plan(_)) {
        let format = if global.format == Format::Dot { "dot" } else { "mermaid" };
        return Err(Failure::from(WrongFormat { format: format.to_owned() }));
    }
    if !gives_back(&cli.command) {
        recovered::remind(&global);
    }
    match cli.command {
        Command::Check(flags) => check::check(&global, &flags),
        Command::Plan(flags) => plan::plan(&global, &flags),
        Command::Apply(flags) => apply::apply(&global, &flags),
        Command::Dispatch(flags) => dispatch::dispatch(&global, *flags),
        Command::Explain(flags) => explain::explain(&global, flags),
        Command::Update(flags) => update::update(&global, &flags),
        Command::Runs(flags) => runs::runs(&global, &flags),
        Command::Logs(flags) => logs::logs(&global, &flags),
        Command::Load(flags) => load::load(&global, &flags),
        Command::Gc(flags) => gc::gc(&global, &flags),
        Command::Trust(flags) => trust::trust(&global, &flags),
        Command::Where(flags) => whereabouts::whereabouts(&global, &flags),
        Command::Leases(flags) => leases::leases(&global, &flags),
        Command::Serve(flags) => serve::serve(&global, *flags),
        Command::Schemas(flags) => schemas::schemas(&global, &flags),
        Command::Doctor(flags) => doctor::doctor(&global, &flags),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "lian-build", &mut script);
            show::own(&String::from_utf8_lossy(&script));
            Ok(Exit::Done)
        }
    }
}

/// Whether a command releases the leases of dead runs itself, or, like completions, must not mention them.
fn gives_back(command: &Command) -> bool {
    match command {
        Command::Apply(_) | Command::Dispatch(_) | Command::Leases(_) | Command::Completions { .. } => true,
        Command::Serve(serve) => serve.leases(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    /// The help of each command, and its unwrapped after-help text.
    fn helps(command: &mut clap::Command, found: &mut Vec<(String, String, String)>) {
        let below = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        found.push((command.get_name().to_owned(), command.render_long_help().to_string(), below));
        command.get_subcommands_mut().for_each(|inner| helps(inner, found));
    }

    #[test]
    fn help_tells_a_commands_own_flags_first_and_breaks_no_example() {
        let mut cli = Cli::command();
        cli.build();
        let mut found = Vec::new();
        helps(&mut cli, &mut found);
        assert!(found.len() > 15, "{}", found.len());
        for (name, help, below) in &found {
            let (own, everywhere) = help.split_once("Options of every command:\n").expect("a heading");
            for flag in ["--format", "--verbose", "--quiet"] {
                assert!(!own.split_whitespace().any(|word| word.trim_end_matches('.') == flag), "{name}: {own}");
                assert!(everywhere.contains(flag), "{name}: {everywhere}");
            }
            assert!(!help.contains("possible values: text") && !help.contains("- dot"), "{name}: {help}");
            // Prose is wrapped at the terminal's width; a wrapped command could not be copied.
            for line in below.lines().filter(|line| line.starts_with("  ")) {
                assert!(line.chars().count() < 80, "{name}: `{line}` is wrapped on a small terminal");
            }
        }
    }
}
