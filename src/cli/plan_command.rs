//! `lian-build plan`: what would be built, and why. Not responsible for: writing anything.

use std::time::Instant;

use super::apply;
use super::args::{Format, Global, Selection};
use super::exit::{Exit, Outcome};
use super::show;
use crate::app::config::Config;
use crate::app::images;
use crate::app::planning::forecast;
use crate::app::planning::platforms;
use crate::app::planning::prepare::{self, Past};
use crate::app::planning::survey::Declarations;
use crate::app::runners::limits::{self, Concurrency};
use crate::app::runners::provider_context::ProviderContext;
use crate::domain::model::ComputeProvider;
use crate::report::{self, Style};

/// Runs the command.
pub fn plan(global: &Global, selection: &Selection, detailed_exitcode: bool) -> Outcome {
    let started = Instant::now();
    let settings = Config::of_selection(&selection.into())?;
    let runtime = crate::app::runtime()?;
    let provider_context = runtime.block_on(ProviderContext::of(&settings))?;
    let survey = platforms::survey(&settings, &provider_context, Declarations::evaluate(&settings)?)?;
    let Some(graph) = &survey.graph else { return Ok(show::unsound(global, &survey, started)) };
    show::warnings(global, &survey);
    let images = images::open_existing(&settings)?;
    // Without a history there are no estimates: no reason not to plan.
    let store = settings.project.read_store().unwrap_or_else(|error| {
        tracing::warn!("{error}: no estimates");
        None
    });
    let past = Past { images: images.as_deref(), history: store.as_ref() };
    let prepared = runtime.block_on(prepare::prepare(&settings, &survey, graph, past, &provider_context))?;
    let width = apply::width(&settings, None);
    let leased = settings.workflow.compute_provider != ComputeProvider::Local;
    let concurrency = Concurrency { width, keep_going: true };
    let limits = limits::limits(&settings, &provider_context, concurrency);
    let fleet = provider_context.fleet(&settings);
    let forecast =
        leased.then(|| forecast::forecast(&prepared.plan, limits::specs(&prepared, &provider_context), limits, fleet));
    let plan = prepared.plan;
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
