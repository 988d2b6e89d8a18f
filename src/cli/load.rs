//! `lian-build load`: loads a layer's image into Docker or podman. Not responsible for: loading it (see `app::load`).

use clap::Args;

use super::args::{Format, Global, Layout, Source};
use super::exit::{Exit, Outcome};
use super::show;
use crate::app::config::{Config, Selection};
use crate::app::load::{self, LoadedImage};
use crate::app::session::Session;

/// Puts a layer's image into Docker or podman
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lian-build load app
  lian-build load app --tag registry.example/app:dev")]
pub struct Load {
    /// The layer
    layer: String,
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    layout: Layout,
    /// The name it gets there; `<namespace>/<layer>:latest` where unset
    #[arg(long)]
    tag: Option<String>,
}

/// Runs the command.
pub fn load(global: &Global, flags: &Load) -> Outcome {
    let selection = Selection { layout: flags.layout.chosen.clone(), ..Selection::of(flags.source.with(global)) };
    let session = Session::new(Config::new(&selection)?)?;
    let LoadedImage { reference, engine, pulled } = load::load(&session, &flags.layer, flags.tag.as_deref())?;
    let pulled = pulled.map_or_else(String::new, |from| format!(", pulled from {from}"));
    match global.format {
        Format::Json => show::json(&serde_json::json!({ "schema": 1, "image": reference, "engine": engine })),
        _ => show::out(&format!("{reference} is in {engine}{pulled}\n")),
    }
    Ok(Exit::Done)
}
