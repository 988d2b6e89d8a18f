//! `lian-build check`: is the catalog sound? Not responsible for: lock, network, daemon.

use std::time::Instant;

use super::args::{Format, Global, Source};
use super::exit::{Exit, Outcome};
use super::show;
use crate::app::config::Config;
use crate::app::planning::survey::Survey;
use crate::domain::base::human_duration;
use crate::domain::model::Diagnostic;
use crate::report::{self, Style};

/// Runs the command.
pub fn check(global: &Global, source: &Source, strict: bool) -> Outcome {
    let started = Instant::now();
    let settings = Config::of_source(&source.into())?;
    let survey = Survey::of_catalog(&settings)?;
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
        let line = format!("{}  {}: {sound}", settings.catalog.display(), counts.join(", "));
        show::out(&format!("{}\n", report::at_the_edges(&line, &human_duration(started.elapsed()), style)));
    }
    Ok(exit)
}
