//! `lian-build check`: checks whether a catalog is valid. Not responsible for: lock, network, daemon.

use std::time::Instant;

use clap::Args;

use super::args::{Format, Global, Source};
use super::exit::{Exit, Outcome};
use super::show;
use crate::app::config::{Config, Selection};
use crate::app::planning::survey::Survey;
use crate::app::runners::provider_context::unusable_runners;
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
    let (layers, faults) = (survey.count(), &survey.diagnostics);
    let fails = faults.iter().any(|fault| strict || fault.is_error());
    let exit = if fails { Exit::Failed } else { Exit::Done };
    if global.format == Format::Json {
        show::json(&report::check_json(layers, faults, &survey.sources, strict));
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
    Ok(exit)
}
