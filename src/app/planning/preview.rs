//! Shows what an apply would do, with time and cost estimates. Not responsible for: executing it.

use super::forecast;
use super::prepare::{self, Past};
use super::survey::Survey;
use crate::app::Error;
use crate::app::runners::limits::{self, Concurrency};
use crate::app::session::Session;
use crate::domain::graph::LayerGraph;
use crate::domain::model::{Forecast, Plan};

/// A plan with its forecast.
pub struct Preview {
    /// The plan.
    pub plan: Plan,
    /// The forecast, if runners are leased.
    pub forecast: Option<Forecast>,
}

/// Plans a valid catalog; writes nothing.
pub fn preview(session: &Session, survey: &Survey, graph: &LayerGraph) -> Result<Preview, Error> {
    let (config, provider_context) = (session.config(), session.provider()?);
    let images = session.existing_images()?.map(|images| &**images);
    // Without a history there are no estimates, but planning still works.
    let history = session.history().unwrap_or_else(|error| {
        tracing::warn!("{error}: no estimates");
        None
    });
    let past = Past { images, history };
    let prepared = session.wait(prepare::prepare(config, survey, graph, past, provider_context))??;
    let concurrency = Concurrency { width: config.width.value, keep_going: true };
    let forecast = provider_context.is_leased().then(|| {
        let (specs, limits) =
            (limits::specs(&prepared, provider_context), limits::limits(config, provider_context, concurrency));
        forecast::forecast(&prepared.plan, specs, limits, provider_context.fleet())
    });
    Ok(Preview { plan: prepared.plan, forecast })
}
