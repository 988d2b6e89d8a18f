//! `lian-build update`: moves the pins of `lian.lock`. Not responsible for: resolving tags (see `app::update`).

use clap::Args;

use super::args::{Format, Global, Source};
use super::exit::{Exit, Outcome};
use super::show;
use crate::app::config::{Config, Selection};
use crate::app::planning::survey::Survey;
use crate::app::session::Session;
use crate::app::update::{self, PinMove, Update};
use crate::domain::base::shown;

/// Moves the pins of external images in `lian.lock` to what their tags mean now
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lian-build update
  lian-build update --dry-run")]
pub struct UpdateFlags {
    #[command(flatten)]
    source: Source,
    /// Only show what would move
    #[arg(long)]
    dry_run: bool,
}

/// Runs the command.
pub fn update(global: &Global, flags: &UpdateFlags) -> Outcome {
    let started = std::time::Instant::now();
    let session = Session::new(Config::new(&Selection::of(flags.source.with(global)))?)?;
    let survey = Survey::of_catalog(session.config())?;
    let Some(graph) = &survey.graph else { return Ok(show::unsound(global, &survey, started)) };
    let Update { moves, written } = update::update(&session, &survey, graph, flags.dry_run)?;
    if global.format == Format::Json {
        let row = |moved: &PinMove| serde_json::json!({ "image": moved.image, "from": moved.from, "to": moved.to });
        let moves: Vec<_> = moves.iter().map(row).collect();
        show::json(&serde_json::json!({ "schema": 1, "moves": moves, "written": written }));
    } else if !moves.is_empty() {
        moves.iter().for_each(|moved| show::out(&line(moved)));
    } else if !global.quiet {
        show::out(&format!("{}: every pin is what its tag means now\n", session.config().lock.display()));
    }
    Ok(Exit::Done)
}

fn line(moved: &PinMove) -> String {
    let was = moved.from.as_ref().map_or("new", |digest| digest.short());
    match &moved.to {
        Some(to) => format!("{}  {was} → {}\n", shown(&moved.image), to.short()),
        None => format!("{}  no longer used\n", shown(&moved.image)),
    }
}
