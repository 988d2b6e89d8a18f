//! `lian-build check`: checks whether a catalog is valid. Not responsible for: lock, network, daemon.

use std::time::Instant;

use clap::Args;

use super::args::{Format, Global, Source};
use super::consent;
use super::exit::{Exit, Failure, Outcome};
use super::show;
use crate::app::config::{Config, Selection};
use crate::app::planning::survey::Survey;
use crate::app::runners::provider_context::unusable_runners;
use crate::app::trust::{self, Purpose, Want};
use crate::domain::base::human_duration;
use crate::domain::model::Diagnostic;
use crate::report::{self, Style};

/// Proves that a catalog is sound; needs neither lock, network nor daemon
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lian-build check
  lian-build check images/ --strict
  lian-build check --format json | jq '.diagnostics[].code'")]
pub struct Check {
    #[command(flatten)]
    source: Source,
    /// Warnings fail too
    #[arg(long)]
    strict: bool,
}

/// Runs the command.
pub fn check(global: &Global, flags: &Check) -> Outcome {
    let (started, strict) = (Instant::now(), flags.strict);
    let config = Config::new(&Selection::of(flags.source.with(global)))?;
    config.project.tell_ignored();
    let mut survey = Survey::of_catalog(&config)?;
    survey.diagnostics.extend(unusable_runners(&config));
    let wants = trust::wants(&config, Purpose::Build(&survey.catalog))?;
    survey.diagnostics.extend(trust::refusals(&wants));
    survey.sources.merge(trust::sources(&wants));
    let needed = needed(&config, &wants)?;
    let (layers, faults) = (survey.count(), &survey.diagnostics);
    let fails = faults.iter().any(|fault| strict || fault.is_error());
    let exit = if fails { Exit::Failed } else { Exit::Done };
    if global.format == Format::Json {
        let mut shown = report::check_json(layers, faults, &survey.sources, strict);
        // What needs nothing looks as it always did.
        if !needed.is_empty() {
            shown["needs"] = needed.iter().map(|want| needs_row(want)).collect();
        }
        show::json(&shown);
        return Ok(exit);
    }
    if !faults.is_empty() && (fails || !global.quiet) {
        let style = Style::stderr();
        eprint!("{}", report::draw_diagnostics(faults, &survey.sources, style));
        eprintln!("{}", report::summary_line(layers, faults, started.elapsed(), style));
    }
    if !faults.iter().any(Diagnostic::is_error) && !global.quiet {
        let style = Style::stdout();
        let edges = survey.graph.as_ref().map_or(0, crate::domain::graph::LayerGraph::edge_count);
        let tools: usize = survey.catalog.layers.iter().map(|declared| declared.layer.tools_provided.len()).sum();
        let counts = [report::count(layers, "layer"), report::count(edges, "edge"), report::count(tools, "tool")];
        let sound = style.good("sound");
        let line = format!("{}  {}: {sound}", config.catalog.display(), counts.join(", "));
        show::out(&format!("{}\n", report::at_the_edges(&line, &human_duration(started.elapsed()), style)));
    }
    if !needed.is_empty() && !global.quiet {
        eprintln!("a build needs what you have not granted yet (lian-build trust):");
        needed.iter().for_each(|want| eprintln!("  {}", consent::line(want)));
    }
    Ok(exit)
}

/// What a build would stop for until it is granted. Checking gives nothing away, so it is only told.
fn needed<'a>(config: &Config, wants: &'a [Want]) -> Result<Vec<&'a Want>, Failure> {
    let granted = trust::is_granted(config, wants)?;
    let needed = wants.iter().zip(granted).filter(|(want, granted)| !granted && want.never.is_none());
    Ok(needed.map(|(want, _)| want).collect())
}

fn needs_row(want: &Want) -> serde_json::Value {
    serde_json::json!({
        "kind": want.kind, "what": want.what, "layer": want.layer, "id": want.id, "place": trust::place_of(want),
    })
}
