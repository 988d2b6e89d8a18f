//! `lian-build runs`: lists runs. Not responsible for: their logs (see `logs`).

use clap::Args;

use super::args::{Format, Global, ProjectFlags};
use super::exit::{Exit, Outcome};
use super::show;
use crate::app::history;
use crate::app::session::Session;
use crate::report::{self, Style};

/// Lists runs, newest first
#[derive(Debug, Args)]
pub struct Runs {
    #[command(flatten)]
    project: ProjectFlags,
    /// At most this many
    #[arg(long, default_value_t = 20)]
    limit: usize,
}

/// Runs the command.
pub fn runs(global: &Global, flags: &Runs) -> Outcome {
    let session = Session::of_project(flags.project.with(global)?)?;
    let runs = history::runs(&session, flags.limit)?;
    match global.format {
        Format::Json => show::json(&report::runs_json(&runs)),
        _ => show::out(&report::runs_table(&runs, Style::stdout())),
    }
    Ok(Exit::Done)
}
