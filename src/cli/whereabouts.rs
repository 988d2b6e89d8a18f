//! `lian-build where`: says where a project's state is. Not responsible for: deciding that (see `app::state`).

use std::path::Path;

use clap::Args;

use super::args::{Format, Global, Layout, ProjectFlags};
use super::exit::{Exit, Outcome};
use super::show;
use crate::app::state::{self, Other};
use crate::domain::base::{agrees, shown};
use crate::report;

/// Says where lian-build keeps the state of a project: history, logs, images; makes nothing
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lian-build where
  lian-build where --format json | jq -r .layout")]
pub struct Where {
    #[command(flatten)]
    project: ProjectFlags,
    #[command(flatten)]
    layout: Layout,
}

/// Runs the command.
pub fn whereabouts(global: &Global, flags: &Where) -> Outcome {
    let project = flags.project.with(global)?;
    let is_there = project.has_state()?;
    let layout = flags.layout.chosen.clone().map_or_else(|| project.layout(), |chosen| chosen.value);
    let layout = std::path::absolute(&layout).unwrap_or(layout);
    let gone = state::others(project.user())?;
    if global.format == Format::Json {
        let gone: Vec<_> = gone.iter().map(row).collect();
        show::json(&serde_json::json!({
            "schema": 1, "root": project.root(), "state": project.state(), "exists": is_there, "layout": layout,
            "user": project.user(), "gone": gone,
        }));
        return Ok(Exit::Done);
    }
    project.tell_ignored();
    let shown = |path: &Path| shown(&path.display().to_string());
    let yet = if is_there { "" } else { "  (not made yet)" };
    show::out(&format!("root    {}\n", shown(project.root())));
    show::out(&format!("state   {}{yet}\n", shown(project.state())));
    show::out(&format!("images  {}\n", shown(&layout)));
    show::out(&format!("user    {}\n", shown(project.user())));
    for other in &gone {
        let waits = other.waiting.filter(|waiting| *waiting > 0).map_or_else(String::new, |waiting| {
            format!(", with {} to be given back", report::count(waiting, "runner"))
        });
        show::out(&format!("gone    {}  was the state of {}{waits}\n", shown(&other.path), shown(&other.root)));
    }
    if !gone.is_empty() && !global.quiet {
        let (projects, is) = (report::count(gone.len(), "project"), agrees(gone.len(), "is", "are"));
        eprintln!("{projects} {is} not where they were: `lian-build gc --gone` removes their state");
    }
    Ok(Exit::Done)
}

fn row(other: &Other) -> serde_json::Value {
    serde_json::json!({ "state": other.path, "root": other.root, "waiting": other.waiting })
}
