//! `lian-build plan`: what would be built, and why. Refuses: writing anything.

use std::time::Instant;

use super::apply;
use super::args::{Format, Global, Selection};
use super::exit::{Exit, Outcome};
use super::show;
use crate::adapters::store::Store;
use crate::app::config::Settings;
use crate::app::images::Images;
use crate::app::planning::forecast;
use crate::app::planning::platforms;
use crate::app::planning::prepare;
use crate::app::planning::survey::Survey;
use crate::app::runners::bounds::{self, Pace};
use crate::app::runners::rent::Renting;
use crate::domain::model::ComputeProvider;
use crate::report::{self, Style};

/// Runs the command.
pub fn plan(global: &Global, selection: &Selection, detailed_exitcode: bool) -> Outcome {
    let started = Instant::now();
    let mut settings = Settings::of_selection(&selection.into())?;
    let renting = crate::app::runtime()?.block_on(Renting::of(&settings))?;
    let survey = platforms::survey(&mut settings, &renting, Survey::take)?;
    let Some(graph) = &survey.graph else { return Ok(show::unsound(global, &survey, started)) };
    show::warnings(global, &survey);
    let images = Images::open_existing(&settings)?;
    // Without a history there are no estimates: no reason not to plan.
    let store = Store::open_existing(&settings.project_root).unwrap_or_else(|error| {
        tracing::warn!("{error}: no estimates");
        None
    });
    let blueprint =
        prepare::prepare(&settings, &survey, graph, images.as_ref().map(Images::store), store.as_ref(), &renting)?;
    let width = apply::width(&settings, None);
    let leased = settings.workflow.compute_provider != ComputeProvider::Local;
    let pace = Pace { width, keep_going: true };
    let limits = bounds::limits(&settings, &renting, pace);
    let fleet = renting.fleet(&settings);
    let forecast =
        leased.then(|| forecast::forecast(&blueprint.plan, bounds::specs(&blueprint, &renting), limits, fleet));
    let plan = blueprint.plan;
    let changes = plan.summary().build > 0;
    match global.format {
        Format::Json => show::json(&report::plan_json(&plan, forecast.as_ref())),
        Format::Dot => show::out(&report::dot(&plan)),
        Format::Mermaid => show::out(&report::mermaid(&plan)),
        Format::Text if global.quiet && !changes => {}
        Format::Text => {
            let forecast = forecast.as_ref();
            show::out(&report::plan_table(&plan, (width, forecast), "lian-build apply", Style::stdout()));
        }
    }
    Ok(if detailed_exitcode && changes { Exit::Changes } else { Exit::Done })
}
