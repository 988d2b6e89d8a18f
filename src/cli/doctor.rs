//! `lian-build doctor`: shows what is missing on this machine. Not responsible for: the checks (see `app::doctor`).

use std::path::PathBuf;

use clap::Args;

use super::args::{Format, Global, ProjectFlags};
use super::exit::{Exit, Outcome};
use super::show;
use crate::app::config::{Config, Selection, Source};
use crate::app::doctor::{self, Finding, State};
use crate::app::session::Session;
use crate::domain::base::shown;
use crate::report::{Style, clean_lines};

/// Says what is missing on this machine, and the command that fixes it
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lian-build doctor
  lian-build doctor --workflow workflows/hosts.ncl   its hosts, too")]
pub struct Doctor {
    #[command(flatten)]
    project: ProjectFlags,
    /// Also tries what this workflow needs: each host (login, host key, buildkitd, programs, disk), the pool or cloud
    /// and its token, the registry
    #[arg(long, value_name = "FILE", conflicts_with = "project")]
    workflow: Option<PathBuf>,
}

/// Runs the command.
pub fn doctor(global: &Global, flags: &Doctor) -> Outcome {
    let findings = match &flags.workflow {
        None => doctor::examine(&Session::of_project(flags.project.with(global)?)?)?,
        Some(file) => {
            let source = Source {
                workflow: Some(file.clone()),
                state: global.state.clone(),
                trust: global.trust(),
                ..Source::default()
            };
            doctor::examine_workflow(&Session::new(Config::new(&Selection::of(source))?)?)?
        }
    };
    let missing = findings.iter().any(|finding| finding.state == State::Missing);
    if global.format == Format::Json {
        let row = |Finding { name, state, told, mend }: &Finding| serde_json::json!({ "name": name, "state": state.as_str(), "detail": told, "mend": mend });
        let rows: Vec<_> = findings.iter().map(row).collect();
        show::json(&serde_json::json!({ "schema": 1, "ok": !missing, "findings": rows }));
    } else {
        let style = Style::stdout();
        let wide = findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0).max(12);
        for Finding { name, state, told, mend } in &findings {
            let mark = match state {
                State::Well => style.good("✓"),
                State::Advice => style.notable("·"),
                State::Missing => style.bad("✗"),
            };
            show::out(&format!("{mark} {:<wide$} {}\n", shown(name), clean_lines(told)));
            if let Some(mend) = mend.as_deref().filter(|mend| !mend.is_empty()) {
                show::out(&format!("  {:<wide$} {}\n", "", clean_lines(mend)));
            }
        }
    }
    Ok(if missing { Exit::Unavailable } else { Exit::Done })
}
