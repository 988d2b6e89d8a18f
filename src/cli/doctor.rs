//! `lian-build doctor`: shows what is missing on this machine. Not responsible for: the checks (see `app::doctor`).

use clap::Args;

use super::args::{Format, Global, ProjectFlags};
use super::exit::{Exit, Outcome};
use super::show;
use crate::app::doctor::{self, Finding, State};
use crate::app::project::Project;
use crate::app::session::Session;
use crate::report::Style;

/// Says what is missing on this machine, and the command that fixes it
#[derive(Debug, Args)]
pub struct Doctor {
    #[command(flatten)]
    project: ProjectFlags,
}

/// Runs the command.
pub fn doctor(global: &Global, flags: &Doctor) -> Outcome {
    let session = Session::of_project(Project::of_folder(&flags.project.project));
    let findings = doctor::examine(&session)?;
    let missing = findings.iter().any(|finding| finding.state == State::Missing);
    if global.format == Format::Json {
        let row = |Finding { name, state, told, mend }: &Finding| serde_json::json!({ "name": name, "state": state.as_str(), "detail": told, "mend": mend });
        let rows: Vec<_> = findings.iter().map(row).collect();
        show::json(&serde_json::json!({ "schema": 1, "ok": !missing, "findings": rows }));
    } else {
        let style = Style::stdout();
        for Finding { name, state, told, mend } in &findings {
            let mark = match state {
                State::Well => style.good("✓"),
                State::Advice => style.notable("·"),
                State::Missing => style.bad("✗"),
            };
            show::out(&format!("{mark} {name:<12} {told}\n"));
            if let Some(mend) = mend {
                show::out(&format!("               {mend}\n"));
            }
        }
    }
    Ok(if missing { Exit::Unavailable } else { Exit::Done })
}
