//! `lian-build plan`: shows what would be built, and why. Not responsible for: writing anything.

use std::time::Instant;

use clap::Args;

use super::args::{Format, Global, Selection};
use super::exit::{Exit, Outcome};
use super::show;
use crate::app::config::Config;
use crate::app::planning::preview::{self, Preview};
use crate::app::planning::survey::Declarations;
use crate::app::planning::{gives, platforms};
use crate::app::session::Session;
use crate::app::trust::{self, Kind, Purpose};
use crate::report::{self, Style};

/// Says what would be built, in which order, on what, and why; writes nothing
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lian-build plan
  lian-build plan --target app --detailed-exitcode
  lian-build plan --provider hcloud     what it would cost there
  lian-build plan --format mermaid > graph.mmd")]
pub struct Plan {
    #[command(flatten)]
    selection: Selection,
    /// Exit with 2 where something would be built
    #[arg(long)]
    detailed_exitcode: bool,
}

/// Runs the command.
pub fn plan(global: &Global, flags: &Plan) -> Outcome {
    let started = Instant::now();
    let session = Session::building(Config::for_builds(&flags.selection.with(global))?)?;
    let (config, provider_context) = (session.config(), session.provider()?);
    let mut survey = platforms::survey(config, provider_context, Declarations::evaluate(config)?)?;
    let wants = trust::wants(config, Purpose::Build(&survey.catalog))?;
    if !trust::is_missing(config, &wants, Kind::CaBundle)? {
        config.check_bundle()?;
    }
    survey.diagnostics.extend(trust::refusals(&wants));
    survey.sources.merge(trust::sources(&wants));
    let Some(graph) = &survey.graph else { return Ok(show::unsound(global, &survey, started)) };
    show::warnings(global, &survey);
    let Preview { plan, forecast } = preview::preview(&session, &survey, graph)?;
    let changes = plan.summary().build > 0;
    let (forecast, given) = (forecast.as_ref(), gives::gives(config, &survey, &plan)?);
    match global.format {
        Format::Json => {
            let mut shown = report::plan_json(&plan, forecast);
            shown["gives"] = report::gives_json(&given);
            // A plan without warnings looks as it always did.
            if !survey.diagnostics.is_empty() {
                shown["diagnostics"] = report::diagnostic_rows(&survey.diagnostics, &survey.sources).into();
            }
            show::json(&shown);
        }
        Format::Dot => show::out(&report::dot(&plan)),
        Format::Mermaid => show::out(&report::mermaid(&plan)),
        Format::Text if global.quiet && !changes => {}
        Format::Text => {
            let width = config.width.value;
            show::out(&report::plan_table(&plan, (width, forecast), "lian-build apply", Style::stdout()));
            show::out(&report::gives_lines(&given, Style::stdout()));
        }
    }
    Ok(if flags.detailed_exitcode && changes { Exit::Changes } else { Exit::Done })
}
