//! `lian-build leases`, `leases gc` and `leases gc --forget`. Not responsible for: which leases are released (see
//! `app::leases`).

use std::io::IsTerminal as _;

use clap::{Args, Subcommand};

use super::args::{Format, Global, Source};
use super::exit::{Exit, Failure, Outcome, outranked};
use super::provider_flags::provider_names;
use super::recovered;
use super::show;
use crate::app::Error;
use crate::app::config::{Config, ProviderChoice, Selection};
use crate::app::leases::{self, Named};
use crate::app::session::Session;
use crate::domain::base::{self, LeaseId, agrees};
use crate::domain::model::ProviderName;
use crate::domain::ports::OwnedLease;
use crate::report::{self, LeaseRow, Style};
use crate::system::now;

/// Lists leased runners: this project's, and all that its provider knows
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  lian-build leases
  lian-build leases --provider hcloud
  lian-build leases gc
  lian-build leases gc --lease 7f3a9c21-1 --force"
)]
pub struct Leases {
    #[command(subcommand)]
    command: Option<LeasesCommand>,
    #[command(flatten)]
    source: Source,
    /// Whose leases; wins over the workflow
    #[arg(long, value_parser = provider_names())]
    provider: Option<ProviderName>,
}

#[derive(Debug, Subcommand)]
enum LeasesCommand {
    /// Gives back what dead runs left and whatever is expired, from any machine
    Gc {
        #[command(flatten)]
        source: Source,
        /// Whose leases; wins over the workflow
        #[arg(long, value_parser = provider_names())]
        provider: Option<ProviderName>,
        /// Also this lease, though it is not expired; may be repeated
        #[arg(long, value_name = "LEASE")]
        lease: Vec<String>,
        /// Takes the named leases away from runs that may be alive; on a terminal, asks before each
        #[arg(long, requires = "lease")]
        force: bool,
        /// Strikes a dead run's lease off the books without giving it back, e.g. where its account is gone; may be repeated
        #[arg(long, value_name = "LEASE", conflicts_with = "lease")]
        forget: Vec<String>,
    },
}

/// Runs the command.
pub fn leases(global: &Global, flags: &Leases) -> Outcome {
    match &flags.command {
        None => list(global, &session_of(global, &flags.source, flags.provider.clone())?),
        Some(LeasesCommand::Gc { source, provider, lease, force, forget }) => {
            let session = session_of(global, source, provider.clone())?;
            let consent: Option<&dyn Fn(&OwnedLease) -> bool> = if *force { Some(&consents) } else { None };
            let named = Named { leases: lease, consent };
            if forget.is_empty() { gc(global, &session, &named) } else { strike(global, &session, forget) }
        }
    }
}

fn session_of(global: &Global, source: &Source, provider: Option<ProviderName>) -> Result<Session, Failure> {
    let placement = ProviderChoice { provider, ..ProviderChoice::default() };
    let selection = Selection { source: source.with(global), placement, ..Selection::default() };
    Ok(Session::renting(Config::new(&selection)?)?)
}

fn list(global: &Global, session: &Session) -> Outcome {
    let listed = leases::list(session)?;
    recovered::tell(global, &listed.recovered);
    let stuck = listed.recovered.is_left();
    outranked(listed.rows.map_err(Failure::from).and_then(|rows| shown(global, &rows, listed.unseen)), stuck)
}

/// Shows the leases that are known, and why some may be missing.
fn shown(global: &Global, rows: &[LeaseRow], unseen: Vec<Error>) -> Outcome {
    let messages: Vec<String> = unseen.iter().map(ToString::to_string).collect();
    let mut unseen = unseen.into_iter().map(Failure::from);
    let Some(first) = unseen.next() else {
        show_rows(global, rows, &messages);
        return Ok(Exit::Done);
    };
    if rows.is_empty() {
        return Err(first);
    }
    show_rows(global, rows, &messages);
    let exit = first.exit;
    if global.format != Format::Json {
        for failure in std::iter::once(first).chain(unseen) {
            show::failure(global.format, failure);
        }
    }
    Ok(exit)
}

fn show_rows(global: &Global, rows: &[LeaseRow], unseen: &[String]) {
    match global.format {
        Format::Json => show::json(&report::leases_json(rows, unseen)),
        _ => show::out(&report::leases_table(rows, now(), Style::stdout())),
    }
}

fn strike(global: &Global, session: &Session, named: &[String]) -> Outcome {
    leases::forget(session, named)?;
    if global.format == Format::Json {
        show::json(&serde_json::json!({ "schema": 1, "forgotten": named }));
    } else if !global.quiet {
        for lease in named {
            eprintln!("the lease {lease} is forgotten: what it may have left at its provider is yours to delete");
        }
    }
    Ok(Exit::Done)
}

/// Asks whether a lease may be taken from a run that may be alive. Without a terminal there is nobody to ask: `--force`
/// is the answer.
fn consents(lease: &OwnedLease) -> bool {
    let (stdin, stderr) = (std::io::stdin(), std::io::stderr());
    if !stdin.is_terminal() || !stderr.is_terminal() {
        return true;
    }
    let of = lease.run.as_ref().map_or_else(String::new, |run| format!(" of the run {run}"));
    let what = base::shown(&lease.what);
    eprint!("the lease {}{of} ({what}) may be in use: take it away? [y/N] ", lease.lease);
    let mut answer = String::new();
    let _ = stdin.read_line(&mut answer);
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

/// Tells of leases that were no dead run's.
fn tell_taken(global: &Global, taken: &[OwnedLease]) {
    if global.format != Format::Text || global.quiet {
        return;
    }
    for OwnedLease { lease, run, expires, .. } in taken {
        let of = run.as_ref().map_or_else(String::new, |run| format!(" of the run {run}"));
        if expires.is_some_and(|expires| expires <= now()) {
            eprintln!("the runner {lease}{of} was given back: it had expired");
        } else {
            eprintln!("the runner {lease}{of} was taken away: if that run lives, its build on it is lost");
        }
    }
}

fn gc(global: &Global, session: &Session, named: &Named<'_>) -> Outcome {
    let leases::Collected { recovered, taken, others: collected } = leases::collect(session, named)?;
    recovered::tell(global, &recovered);
    tell_taken(global, &taken);
    let released = recovered.released.iter().chain(taken.iter().map(|taken| &taken.lease));
    let released: Vec<&str> = released.map(LeaseId::as_str).collect();
    let stuck: Vec<&str> = recovered.stuck.iter().map(|(lease, _)| lease.as_str()).collect();
    match global.format {
        // With JSON output, the error replaces the result.
        Format::Json if collected.is_err() => {}
        Format::Json => show::json(&serde_json::json!({ "schema": 1, "released": released, "stuck": stuck })),
        _ if global.quiet => {}
        _ if released.is_empty() && stuck.is_empty() && collected.is_err() => {}
        _ if released.is_empty() && stuck.is_empty() => {
            show::out(&format!("nothing to give back{}\n", others(collected.as_ref().map_or(0, |others| *others))));
        }
        _ => show::out(&format!("{} given back\n", report::count(released.len(), "runner"))),
    }
    outranked(collected.map(|_| Exit::Done).map_err(Failure::from), !stuck.is_empty())
}

/// Reports the leases of others, for a user who may have started a run from another folder.
fn others(count: usize) -> String {
    match count {
        0 => String::new(),
        count => format!(
            "; {} of other projects {} not expired yet: `lian-build leases` lists {}",
            report::count(count, "lease"),
            agrees(count, "is", "are"),
            agrees(count, "it", "them")
        ),
    }
}
