//! `lian-build explain`: says what directives would do, and does nothing. Not responsible for: what they may do (see
//! `app::directives`).

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use super::args::{Format, Global, parse_pair};
use super::dispatch::{Directed, following};
use super::exit::{Exit, Outcome};
use super::show;
use crate::app::dispatch::DispatchRequest;
use crate::app::explain;
use crate::app::planning::platforms;
use crate::app::session::Session;
use crate::report::Style;

/// Says what directives would do: who reads and writes what, on what they build, which tags they move
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lian-build explain ci/directives.ncl --set sha=1234abc
  lian-build explain ci/session.ncl --format json")]
pub struct Explain {
    /// The directives (docs/directives.md)
    #[arg(value_name = "DIRECTIVES")]
    directives: PathBuf,
    /// Binds a name around them: `sha=1234abc`; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    set: Vec<(String, String)>,
}

/// Runs the command.
pub fn explain(global: &Global, flags: Explain) -> Outcome {
    let started = Instant::now();
    let directed = Directed { file: Some(flags.directives), set: flags.set };
    let request = DispatchRequest { state: global.state.clone(), trust: global.trust(), ..DispatchRequest::default() };
    let dispatch = following(request, directed)?.resolve()?;
    let session = Session::renting(dispatch.config()?)?;
    let (config, provider_context) = (session.config(), session.provider()?);
    let survey = platforms::survey(config, provider_context, dispatch.declarations(config)?)?;
    if survey.graph.is_none() {
        return Ok(show::unsound(global, &survey, started));
    }
    show::warnings(global, &survey);
    let explained = explain::explain(&session, &survey)?;
    match global.format {
        Format::Json => show::json(&explained.json()),
        _ => show::out(&explained.lines(Style::stdout())),
    }
    Ok(Exit::Done)
}
